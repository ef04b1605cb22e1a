#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/tensor_core.h"
#include "kernels/gemm/fp8_linear_impl.h"

namespace moerl::kernels::cuda {
namespace {

constexpr int kWarps = kThreads / 32;

/// Four elements of a row as floats.
template <typename T>
struct Four {
  float x[4];

  __device__ explicit Four(const T* from) {
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) x[i] = load(from + i);
  }
  /// Bits of the largest magnitude.
  __device__ uint32_t largest() const {
    uint32_t most = 0;
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFF;
      most = bits > most ? bits : most;
    }
    return most;
  }
  __device__ uint32_t codes(float scale) const {
    uint32_t word = 0;
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) word |= uint32_t{to_e4m3(x[i] / scale)} << 8 * i;
    return word;
  }
};

__device__ __forceinline__ uint32_t largest_of_warp(uint32_t x) {
  for (int half = 16; half >= 1; half /= 2) {
    const uint32_t other = __shfl_xor_sync(~0u, x, half);
    x = other > x ? other : x;
  }
  return x;
}

/// A warp for each tile of 1 x 128, a lane for four of its elements.
template <typename T>
__global__ void __launch_bounds__(kThreads) quantize_rows_kernel(Fp8Quantize args) {
  const int64_t tiles = num_fp8_blocks(args.columns);
  const int64_t tile = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (tile >= args.rows * tiles) return;
  const int64_t row = tile / tiles, column = tile % tiles * kFp8Block + threadIdx.x % 32 * 4;
  const bool inside = column < args.columns;
  const int64_t at = row * args.columns + (inside ? column : 0);
  const Four<T> four(static_cast<const T*>(args.x) + at);
  const float scale = fp8_scale(largest_of_warp(inside ? four.largest() : 0u));
  if (inside) static_cast<uint32_t*>(args.codes)[at / 4] = four.codes(scale);
  if (threadIdx.x % 32 == 0) args.scales[tile] = scale;
}

/// A block for each block of 128 x 128, a warp for each eighth row of it.
template <typename T>
__global__ void __launch_bounds__(kThreads) quantize_blocks_kernel(Fp8Quantize args) {
  MOERL_SHARED_MEMORY(shared);
  auto* largest_of = reinterpret_cast<uint32_t*>(shared);  // [kWarps]
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t column = int64_t{blockIdx.x} * kFp8Block + threadIdx.x % 32 * 4;
  const int64_t first = int64_t{blockIdx.y} * kFp8Block;
  const int64_t end = first + kFp8Block < args.rows ? first + kFp8Block : args.rows;
  const bool inside = column < args.columns;
  const T* x = static_cast<const T*>(args.x);
  uint32_t largest = 0;
  for (int64_t r = first + warp; inside && r < end; r += kWarps) {
    const uint32_t bits = Four<T>(x + r * args.columns + column).largest();
    largest = bits > largest ? bits : largest;
  }
  largest = largest_of_warp(largest);
  if (threadIdx.x % 32 == 0) largest_of[warp] = largest;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) largest = largest_of[w] > largest ? largest_of[w] : largest;
  const float scale = fp8_scale(largest);
  for (int64_t r = first + warp; inside && r < end; r += kWarps) {
    const int64_t at = r * args.columns + column;
    static_cast<uint32_t*>(args.codes)[at / 4] = Four<T>(x + at).codes(scale);
  }
  if (threadIdx.x == 0) args.scales[int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = scale;
}

void quantize(const Fp8Quantize& args) {
  const int64_t tiles = num_fp8_blocks(args.columns);
  if (args.is_weight)
    launch("quantize_fp8_weight",
           args.is_bf16 ? quantize_blocks_kernel<bf16> : quantize_blocks_kernel<float>,
           {dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(num_fp8_blocks(args.rows))),
            kThreads, kWarps * sizeof(uint32_t)},
           args);
  else
    launch("quantize_fp8_activation",
           args.is_bf16 ? quantize_rows_kernel<bf16> : quantize_rows_kernel<float>,
           {blocks_for(args.rows * tiles, kWarps), kThreads}, args);
}

/// A tile of kRows x 64 of y; four warps, each with sixteen rows. A block of the depth is two
/// stages of shared memory away.
template <int kRows>
struct Fp8Tile {
  static constexpr int kTileThreads = 128, kColumns = 64;
  static constexpr int kWarpRows = kRows / 16, kWarpColumns = kColumns * kWarpRows / 4;
  static constexpr int kTiles = kWarpColumns / 8;
  static constexpr int kPitch = kFp8Block + 16, kStage = (kRows + kColumns) * kPitch;
  static constexpr size_t kSharedBytes = 2 * kStage;

  const Fp8Product& args;
  unsigned char* shared;
  int64_t row, column;  // the first ones

  /// Asks for a block of the depth: kRows rows of x, then 64 of the weight; zeros behind the ends.
  __device__ void request(int64_t block) const {
    unsigned char* stage = shared + block % 2 * kStage;
    constexpr int kChunks = kFp8Block / 16;
    for (int i = static_cast<int>(threadIdx.x); i < (kRows + kColumns) * kChunks;
         i += kTileThreads) {
      const int r = i / kChunks;
      const int64_t k = block * kFp8Block + i % kChunks * 16;
      const bool is_x = r < kRows;
      const int64_t from = is_x ? row + r : column + r - kRows;
      const bool inside = from < (is_x ? args.rows : args.columns) && k < args.depth;
      const auto* codes = static_cast<const unsigned char*>(is_x ? args.x : args.weight);
      cp_async_16(stage + r * kPitch + i % kChunks * 16,
                  inside ? codes + from * args.depth + k : codes, inside ? 16 : 0);
    }
    cp_async_commit();
  }

  /// The warp's part of the block's product.
  __device__ void multiply(int64_t block, float (&part)[kTiles][4]) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const unsigned char* x = shared + block % 2 * kStage + warp % kWarpRows * 16 * kPitch;
    const unsigned char* w =
        shared + block % 2 * kStage + (kRows + warp / kWarpRows * kWarpColumns) * kPitch;
    MOERL_UNROLL
    for (int k = 0; k < kFp8Block; k += 64) {
      uint32_t a[2][4];
      MOERL_UNROLL
      for (int half = 0; half < 2; ++half)
        ldmatrix_x4<false>(a[half], x + lane % 16 * kPitch + k + half * 32 + lane / 16 * 16);
      MOERL_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        uint32_t b[4];  // a depth of 64 of eight columns
        ldmatrix_x4<false>(b, w + (t * 8 + lane % 8) * kPitch + k + lane / 8 * 16);
        MOERL_UNROLL
        for (int half = 0; half < 2; ++half) {
          const uint32_t b_half[2] = {b[2 * half], b[2 * half + 1]};
          mma_e4m3(part[t], a[half], b_half);
        }
      }
    }
  }

  __device__ void run() const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t blocks = num_fp8_blocks(args.depth);
    const int64_t my_row = row + warp % kWarpRows * 16 + lane / 4;  // and the eighth behind it
    const float* w_scales = args.weight_scales + column / kFp8Block * blocks;
    float sum[kTiles][4] = {};
    request(0);
    for (int64_t block = 0; block < blocks; ++block) {
      if (block + 1 < blocks)
        request(block + 1);
      else
        cp_async_commit();
      cp_async_wait<1>();
      __syncthreads();
      float part[kTiles][4] = {};
      multiply(block, part);
      float scale[2];
      MOERL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t r = my_row + 8 * half;
        scale[half] = r < args.rows ? args.x_scales[r * blocks + block] * w_scales[block] : 0.0f;
      }
      MOERL_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        MOERL_UNROLL
        for (int e = 0; e < 4; ++e) sum[t][e] = fma(part[t][e], scale[e / 2], sum[t][e]);
      }
      __syncthreads();  // before the stage is written again
    }
    cp_async_wait<0>();
    MOERL_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      MOERL_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int64_t r = my_row + e / 2 * 8;
        const int64_t c = column + warp / kWarpRows * kWarpColumns + t * 8 + lane % 4 * 2 + e % 2;
        if (r >= args.rows || c >= args.columns) continue;
        if (args.y_is_bf16)
          store(static_cast<bf16*>(args.y) + r * args.columns + c, sum[t][e]);
        else
          store(static_cast<float*>(args.y) + r * args.columns + c, sum[t][e]);
      }
    }
  }
};

template <int kRows>
__global__ void __launch_bounds__(Fp8Tile<kRows>::kTileThreads) product_kernel(Fp8Product args) {
  MOERL_SHARED_MEMORY(shared);
  Fp8Tile<kRows>{args, shared, int64_t{blockIdx.y} * kRows,
                 int64_t{blockIdx.x} * Fp8Tile<kRows>::kColumns}
      .run();
}

template <int kRows>
void launch_product(const Fp8Product& args) {
  using Tile = Fp8Tile<kRows>;
  launch("fp8_linear_forward", product_kernel<kRows>,
         {dim3(blocks_for(args.columns, Tile::kColumns), blocks_for(args.rows, kRows)),
          Tile::kTileThreads, Tile::kSharedBytes},
         args);
}

/// No row's bits depend on the tile.
void forward(const Fp8Product& args) {
  args.rows <= 16 ? launch_product<16>(args) : launch_product<64>(args);
}

const RegisterCudaOps<Fp8LinearCuda> registered({quantize, forward});

}  // namespace
}  // namespace moerl::kernels::cuda
