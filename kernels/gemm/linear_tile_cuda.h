#pragma once
// One tile of a product on the device: c [rows, columns] from a [rows, depth] and b [columns,
// depth]. The order in which an element is summed depends on the depth alone, so it is the same in
// every size of tile, and whatever the other rows are. Included by *_cuda.cu only.

#include "kernels/cuda/math.h"
#include "kernels/cuda/tensor_core.h"

namespace moerl::kernels::cuda {

/// Element (i, k) of an operand is data[i * stride + k], transposed data[k * stride + i].
struct Operand {
  const void* data;
  int64_t stride;
};

/// What becomes of the sums.
enum class Finish {
  kStore,     ///< c = sum
  kAdd,       ///< c = c + sum, rounded once
  kContinue,  ///< c is where the sum starts (fp32)
};

struct TileProblem {
  Operand a, b;
  int64_t rows, columns,
      depth;  ///< of what is left of a, b from the tile's corner on; depth of all
  void* c;
  int64_t c_stride;
  bool c_is_bf16;
  Finish finish;
};

__device__ __forceinline__ float load_c(const TileProblem& p, int64_t at) {
  return p.c_is_bf16 ? load(static_cast<const bf16*>(p.c) + at)
                     : load(static_cast<const float*>(p.c) + at);
}
__device__ __forceinline__ float first_sum(const TileProblem& p, int row, int column) {
  if (p.finish != Finish::kContinue || row >= p.rows || column >= p.columns) return 0.0f;
  return load_c(p, row * p.c_stride + column);
}
__device__ __forceinline__ void finish_sum(const TileProblem& p, int row, int column, float sum) {
  if (row >= p.rows || column >= p.columns) return;
  const int64_t at = row * p.c_stride + column;
  if (p.finish == Finish::kAdd) sum = load_c(p, at) + sum;
  if (p.c_is_bf16)
    store(static_cast<bf16*>(p.c) + at, sum);
  else
    store(static_cast<float*>(p.c) + at, sum);
}

// ---- bf16 on tensor cores: k ascending in steps of sixteen, one fp32 accumulator ----

inline constexpr int kMmaThreads = 128, kMmaColumns = 64, kMmaDepth = 32, kMmaStages = 3;

/// A box of kOuter x kInner elements of an operand in shared memory, kInner along its rows in
/// memory. A row's pitch keeps ldmatrix free of bank conflicts.
template <int kExtent, bool kTransposed>
struct MmaBox {
  static constexpr int kOuter = kTransposed ? kMmaDepth : kExtent;
  static constexpr int kInner = kTransposed ? kExtent : kMmaDepth;
  static constexpr int kPitch = kInner + 8;
  static constexpr int kElements = kOuter * kPitch;

  /// Copies the box at depth k; zeros outside of [extent, depth]. Rows of memory that are aligned
  /// are on their way when it returns.
  __device__ static void copy(const Operand& from, int64_t extent, int64_t depth, int64_t k,
                              bf16* to) {
    const bf16* data = static_cast<const bf16*>(from.data);
    const int64_t outer = kTransposed ? depth - k : extent;
    const int64_t inner = kTransposed ? extent : depth - k;
    data += kTransposed ? k * from.stride : k;
    constexpr int kChunk = 8;
    const bool aligned = from.stride % kChunk == 0 && inner % kChunk == 0 &&
                         reinterpret_cast<uintptr_t>(from.data) % 16 == 0;
    for (int i = static_cast<int>(threadIdx.x); i < kOuter * kInner / kChunk; i += kMmaThreads) {
      const int row = i / (kInner / kChunk), column = i % (kInner / kChunk) * kChunk;
      bf16* chunk = to + row * kPitch + column;
      const bf16* source = data + row * from.stride + column;
      if (aligned) {
        const bool inside = row < outer && column < inner;
        cp_async_16(chunk, inside ? source : from.data, inside ? 16 : 0);
      } else {
        for (int j = 0; j < kChunk; ++j)
          chunk[j] = row < outer && column + j < inner ? source[j] : bf16{0};
      }
    }
  }

  /// Four 8 x 8 matrices of the operand: elements [i, i + 16) x [k, k + 16), the second matrix 8
  /// behind the first in the operand's own dimension (kAcross) or in depth.
  template <bool kAcross>
  __device__ static void fragment(const bf16* box, int i, int k, uint32_t (&out)[4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = lane % 8;
    const int first = lane / 8 % 2 * 8, second = lane / 16 * 8;
    const int across = i + (kAcross ? first : second), along = k + (kAcross ? second : first);
    if constexpr (kTransposed)
      ldmatrix_x4<true>(out, box + (along + row) * kPitch + across);
    else
      ldmatrix_x4<false>(out, box + (across + row) * kPitch + along);
  }
};

/// kRows: 16, or 64. Four warps side by side, or two by two.
template <int kRows, bool kTransposedA, bool kTransposedB>
struct MmaTile {
  using A = MmaBox<kRows, kTransposedA>;
  using B = MmaBox<kMmaColumns, kTransposedB>;
  static constexpr int kWarpRows = kRows == 16 ? 16 : 32, kWarpColumns = kRows == 16 ? 16 : 32;
  static constexpr int kSteps = kWarpRows / 16, kPairs = kWarpColumns / 16;
  static constexpr int kStageElements = A::kElements + B::kElements;
  static constexpr size_t kSharedBytes = kMmaStages * kStageElements * sizeof(bf16);

  __device__ static void run(const TileProblem& p, unsigned char* shared) {
    bf16* stages = reinterpret_cast<bf16*>(shared);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int warp_row = kRows == 16 ? 0 : warp / 2 * kWarpRows;
    const int warp_column = kRows == 16 ? warp * kWarpColumns : warp % 2 * kWarpColumns;
    auto row_of = [&](int i, int e) { return warp_row + i * 16 + lane / 4 + e / 2 * 8; };
    auto column_of = [&](int j, int e) { return warp_column + j * 8 + lane % 4 * 2 + e % 2; };

    float sum[kSteps][2 * kPairs][4];
    MOERL_UNROLL
    for (int i = 0; i < kSteps; ++i) MOERL_UNROLL
    for (int j = 0; j < 2 * kPairs; ++j) MOERL_UNROLL
    for (int e = 0; e < 4; ++e) sum[i][j][e] = first_sum(p, row_of(i, e), column_of(j, e));

    const int64_t blocks = (p.depth + kMmaDepth - 1) / kMmaDepth;
    auto request = [&](int64_t block) {
      bf16* stage = stages + block % kMmaStages * kStageElements;
      if (block < blocks) {
        A::copy(p.a, p.rows, p.depth, block * kMmaDepth, stage);
        B::copy(p.b, p.columns, p.depth, block * kMmaDepth, stage + A::kElements);
      }
      cp_async_commit();
    };
    for (int s = 0; s < kMmaStages - 1; ++s) request(s);
    for (int64_t block = 0; block < blocks; ++block) {
      cp_async_wait<kMmaStages - 2>();
      __syncthreads();  // the block is there, and all are done with the one before it
      request(block + kMmaStages - 1);
      const bf16* stage = stages + block % kMmaStages * kStageElements;
      MOERL_UNROLL
      for (int k = 0; k < kMmaDepth; k += 16) {
        uint32_t a[kSteps][4], b[kPairs][4];
        MOERL_UNROLL
        for (int i = 0; i < kSteps; ++i)
          A::template fragment<true>(stage, warp_row + i * 16, k, a[i]);
        MOERL_UNROLL
        for (int j = 0; j < kPairs; ++j)
          B::template fragment<false>(stage + A::kElements, warp_column + j * 16, k, b[j]);
        MOERL_UNROLL
        for (int i = 0; i < kSteps; ++i) MOERL_UNROLL
        for (int j = 0; j < 2 * kPairs; ++j) {
          const uint32_t half[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma_bf16(sum[i][j], a[i], half);
        }
      }
    }
    MOERL_UNROLL
    for (int i = 0; i < kSteps; ++i) MOERL_UNROLL
    for (int j = 0; j < 2 * kPairs; ++j) MOERL_UNROLL
    for (int e = 0; e < 4; ++e) finish_sum(p, row_of(i, e), column_of(j, e), sum[i][j][e]);
  }
};

// ---- fp32: one chain of fused multiply-adds, k ascending, the bits of the CPU ----

inline constexpr int kFmaThreads = 256, kFmaExtent = 64, kFmaDepth = 16;

template <bool kTransposedA, bool kTransposedB>
struct FmaTile {
  static constexpr int kPitch = kFmaExtent + 4;
  static constexpr size_t kSharedBytes = 2 * kFmaDepth * kPitch * sizeof(float);

  template <bool kTransposed>
  __device__ static void copy(const Operand& from, int64_t extent, int64_t depth, int64_t k,
                              float* to) {
    const float* data = static_cast<const float*>(from.data);
    for (int n = static_cast<int>(threadIdx.x); n < kFmaExtent * kFmaDepth; n += kFmaThreads) {
      const int i = kTransposed ? n % kFmaExtent : n / kFmaDepth;
      const int j = kTransposed ? n / kFmaExtent : n % kFmaDepth;
      const bool inside = i < extent && k + j < depth;
      const int64_t at = kTransposed ? (k + j) * from.stride + i : i * from.stride + k + j;
      to[j * kPitch + i] = inside ? data[at] : 0.0f;
    }
  }

  __device__ static void run(const TileProblem& p, unsigned char* shared) {
    float* a = reinterpret_cast<float*>(shared);
    float* b = a + kFmaDepth * kPitch;
    const int row = static_cast<int>(threadIdx.x) / 16, column = static_cast<int>(threadIdx.x) % 16;
    float sum[4][4];
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) MOERL_UNROLL
    for (int j = 0; j < 4; ++j) sum[i][j] = first_sum(p, row + 16 * i, column + 16 * j);
    for (int64_t k = 0; k < p.depth; k += kFmaDepth) {
      copy<kTransposedA>(p.a, p.rows, p.depth, k, a);
      copy<kTransposedB>(p.b, p.columns, p.depth, k, b);
      __syncthreads();
      // No step behind the depth: adding a product of zeros would turn -0 into +0.
      const int steps = static_cast<int>(p.depth - k < kFmaDepth ? p.depth - k : kFmaDepth);
      for (int step = 0; step < steps; ++step) {
        float left[4], right[4];
        MOERL_UNROLL
        for (int i = 0; i < 4; ++i) {
          left[i] = a[step * kPitch + row + 16 * i];
          right[i] = b[step * kPitch + column + 16 * i];
        }
        MOERL_UNROLL
        for (int i = 0; i < 4; ++i) MOERL_UNROLL
        for (int j = 0; j < 4; ++j) sum[i][j] = fma(left[i], right[j], sum[i][j]);
      }
      __syncthreads();
    }
    MOERL_UNROLL
    for (int i = 0; i < 4; ++i) MOERL_UNROLL
    for (int j = 0; j < 4; ++j) finish_sum(p, row + 16 * i, column + 16 * j, sum[i][j]);
  }
};

}  // namespace moerl::kernels::cuda
