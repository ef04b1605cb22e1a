#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/tensor_core.h"
#include "kernels/gemm/fp8_linear_impl.h"
#include "kernels/gemm/linear_groups_cuda.h"

namespace moerl::kernels::cuda {
namespace {

constexpr int kWarps = kThreads / 32;

/// Four elements of a row as floats, of which the first `count` are there.
template <typename T>
struct Four {
  float x[4];
  int64_t count;

  __device__ Four(const T* from, int64_t n) : count(n) {
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) x[i] = i < count ? load(from + i) : 0.0f;
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
    for (int i = 0; i < 4; ++i) word |= (i < count ? uint32_t{to_e4m3(x[i] / scale)} : 0u) << 8 * i;
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
  const int64_t tiles = num_fp8_blocks(args.columns), pitch = fp8_pitch(args.columns);
  const int64_t tile = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (tile >= args.rows * tiles) return;
  const int64_t row = tile / tiles, column = tile % tiles * kFp8Block + threadIdx.x % 32 * 4;
  const Four<T> four(static_cast<const T*>(args.x) + row * args.columns + column,
                     args.columns - column);
  const float scale = fp8_scale(largest_of_warp(four.largest()));
  if (column < pitch)
    static_cast<uint32_t*>(args.codes)[(row * pitch + column) / 4] = four.codes(scale);
  if (threadIdx.x % 32 == 0) args.scales[tile] = scale;
}

/// A block for each block of 128 x 128, a warp for each eighth row of it; transposed in shared
/// memory.
struct QuantizeBlock {
  // Off by one: the lanes of a warp, four rows apart, then meet banks of their own.
  static constexpr int kPitch = kFp8Block + 1;
  static constexpr size_t kSharedBytes = kWarps * sizeof(uint32_t) + kFp8Block * kPitch;

  const Fp8Quantize& args;
  uint32_t* largest_of;   // [kWarps]
  unsigned char* staged;  // [128, kPitch]

  __device__ void run() const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t first_row = int64_t{blockIdx.y} * kFp8Block;
    const int64_t first_column = int64_t{blockIdx.x} * kFp8Block, column = first_column + lane * 4;
    const int64_t rows = min_of(kFp8Block, args.rows - first_row);
    const int64_t pitch = fp8_pitch(args.columns);
    auto four = [&](int64_t r) {
      return Four<float>(
          static_cast<const float*>(args.x) + (first_row + r) * args.columns + column,
          args.columns - column);
    };
    uint32_t largest = 0;
    for (int64_t r = warp; r < rows; r += kWarps) {
      const uint32_t bits = four(r).largest();
      largest = bits > largest ? bits : largest;
    }
    largest = largest_of_warp(largest);
    if (lane == 0) largest_of[warp] = largest;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) largest = largest_of[w] > largest ? largest_of[w] : largest;
    const float scale = fp8_scale(largest);
    if (threadIdx.x == 0) {
      args.scales[int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = scale;
      if (args.transposed != nullptr)
        args.transposed_scales[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = scale;
    }
    for (int64_t r = warp; r < kFp8Block; r += kWarps) {
      const uint32_t word = r < rows ? four(r).codes(scale) : 0u;
      if (r < rows && column < pitch)
        static_cast<uint32_t*>(args.codes)[((first_row + r) * pitch + column) / 4] = word;
      MOERL_UNROLL
      for (int i = 0; i < 4; ++i)
        staged[r * kPitch + lane * 4 + i] = static_cast<unsigned char>(word >> 8 * i);
    }
    if (args.transposed == nullptr) return;
    __syncthreads();
    const int64_t columns = min_of(kFp8Block, args.columns - first_column);
    const int64_t transposed_pitch = fp8_pitch(args.rows), row = first_row + lane * 4;
    if (row >= transposed_pitch) return;
    for (int64_t c = warp; c < columns; c += kWarps) {
      uint32_t word = 0;
      MOERL_UNROLL
      for (int i = 0; i < 4; ++i) word |= uint32_t{staged[(lane * 4 + i) * kPitch + c]} << 8 * i;
      static_cast<uint32_t*>(args.transposed)[((first_column + c) * transposed_pitch + row) / 4] =
          word;
    }
  }

  __device__ static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
};

__global__ void __launch_bounds__(kThreads) quantize_blocks_kernel(Fp8Quantize args) {
  MOERL_SHARED_MEMORY(shared);
  QuantizeBlock{args, reinterpret_cast<uint32_t*>(shared), shared + kWarps * sizeof(uint32_t)}
      .run();
}

void quantize(const Fp8Quantize& args) {
  const int64_t tiles = num_fp8_blocks(args.columns);
  if (args.is_weight)
    launch("pack_fp8_weight", quantize_blocks_kernel,
           {dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(num_fp8_blocks(args.rows))),
            kThreads, QuantizeBlock::kSharedBytes},
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
  const unsigned char* weight;
  const float* weight_scales;
  int64_t row, row_end, column;  // of y; the rows end with the tile or its group

  /// Asks for a block of the depth: kRows rows of x, then 64 of the weight; zeros behind the ends.
  __device__ void request(int64_t block) const {
    unsigned char* stage = shared + block % 2 * kStage;
    constexpr int kChunks = kFp8Block / 16;
    const int64_t pitch = fp8_pitch(args.depth);
    for (int i = static_cast<int>(threadIdx.x); i < (kRows + kColumns) * kChunks;
         i += kTileThreads) {
      const int r = i / kChunks;
      const int64_t k = block * kFp8Block + i % kChunks * 16;
      const bool is_x = r < kRows;
      const int64_t from = is_x ? row + r : column + r - kRows;
      const bool inside = from < (is_x ? row_end : args.columns) && k < pitch;
      const auto* codes = is_x ? static_cast<const unsigned char*>(args.x) : weight;
      cp_async_16(stage + r * kPitch + i % kChunks * 16, inside ? codes + from * pitch + k : codes,
                  inside ? 16 : 0);
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
    const float* w_scales = weight_scales + column / kFp8Block * blocks;
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
        scale[half] = r < row_end ? args.x_scales[r * blocks + block] * w_scales[block] : 0.0f;
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
        if (r >= row_end || c >= args.columns) continue;
        if (args.y_is_bf16)
          finish(static_cast<bf16*>(args.y) + r * args.columns + c, sum[t][e]);
        else
          finish(static_cast<float*>(args.y) + r * args.columns + c, sum[t][e]);
      }
    }
  }

  template <typename T>
  __device__ void finish(T* y, float sum) const {
    store(y, args.accumulate ? load(y) + sum : sum);
  }
};

template <int kRows>
__global__ void __launch_bounds__(Fp8Tile<kRows>::kTileThreads) product_kernel(Fp8Product args) {
  MOERL_SHARED_MEMORY(shared);
  const LinearGroups& groups = args.groups;
  const RowTile tile = find_row_tile(groups, args.rows, blockIdx.y, kRows);
  if (tile.group < 0) return;
  const bool grouped = groups.count > 0;
  const void* weight = grouped ? groups.weights[tile.group] : args.weight;
  const void* scales = grouped ? groups.weights[groups.count + tile.group] : args.weight_scales;
  Fp8Tile<kRows>{args,
                 shared,
                 static_cast<const unsigned char*>(weight),
                 static_cast<const float*>(scales),
                 tile.begin,
                 tile.end,
                 int64_t{blockIdx.x} * Fp8Tile<kRows>::kColumns}
      .run();
}

template <int kRows>
void launch_product(const Fp8Product& args) {
  using Tile = Fp8Tile<kRows>;
  launch("fp8_products", product_kernel<kRows>,
         {dim3(blocks_for(args.columns, Tile::kColumns), row_tiles(args.groups, args.rows, kRows)),
          Tile::kTileThreads, Tile::kSharedBytes},
         args);
}

/// No row's bits depend on the tile.
void product(const Fp8Product& args) {
  if (args.rows == 0) return;
  has_few_rows(args.groups, args.rows) ? launch_product<16>(args) : launch_product<64>(args);
}

const RegisterCudaOps<Fp8LinearCuda> registered({quantize, product});

}  // namespace
}  // namespace moerl::kernels::cuda
