#pragma once
// One tile of a bf16 product by two warpgroups of a Hopper GPU: c [rows, columns] from a [rows,
// depth] and b [columns, depth], with the order of sums of MmaTile: the depth ascending in steps of
// sixteen into one fp32 accumulator, zeros up to the next 32. Included by *_cuda.cu only.
//
// Operands come by cp.async and not by TMA: where a group's rows end is known to the device alone,
// and each expert's weight has an address of its own, while a tensor map of TMA is made by the host
// for one matrix.

#include "kernels/cuda/wgmma.h"
#include "kernels/gemm/linear_tile_cuda.h"

namespace moerl::kernels::cuda {

inline constexpr int kWgmmaThreads = 2 * kWarpgroupThreads;
inline constexpr int kWgmmaRows = 2 * kWgmmaBox, kWgmmaDepth = kWgmmaBox;

/// kExtent x 64 elements of an operand in shared memory, as boxes one behind the other. Rows of
/// memory are multiples of 16 bytes, from multiples of 16 on.
template <int kExtent, bool kTransposed>
struct WgmmaBoxes {
  static constexpr int kElements = kExtent * kWgmmaDepth;

  /// Asks for a copy of the boxes at depth k; zeros outside of [extent, depth].
  __device__ static void copy(const Operand& from, int64_t extent, int64_t depth, int64_t k,
                              bf16* to) {
    constexpr int kChunks = kWgmmaBox / kWgmmaChunk, kRowsAtOnce = kWgmmaThreads / kChunks;
    const bf16* data = static_cast<const bf16*>(from.data);
    const int row = static_cast<int>(threadIdx.x) / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks, inner = chunk * kWgmmaChunk;
    if constexpr (kTransposed) {
      MOERL_UNROLL
      for (int step = row; step < kWgmmaBox; step += kRowsAtOnce) {
        const bf16* source = data + (k + step) * from.stride + inner;
        const int64_t valid = k + step < depth ? extent - inner : 0;
        MOERL_UNROLL
        for (int i = 0; i < kExtent; i += kWgmmaBox)
          cp_async_16(to + swizzled_chunk(i + step, chunk), source + i, i < valid ? 16 : 0);
      }
    } else {
      const bf16* source = data + row * from.stride + k + inner;
      const int64_t valid = k + inner < depth ? extent - row : 0;
      MOERL_UNROLL
      for (int i = 0; i < kExtent; i += kRowsAtOnce, source += kRowsAtOnce * from.stride)
        cp_async_16(to + swizzled_chunk(i + row, chunk), source, i < valid ? 16 : 0);
    }
  }
};

/// kColumns: 128, or 256, which reads shared memory less often for a product. Columns and strides
/// of all three matrices are multiples of 8.
template <int kColumns, bool kTransposedA, bool kTransposedB>
struct WgmmaTile {
  using A = WgmmaBoxes<kWgmmaRows, kTransposedA>;
  using B = WgmmaBoxes<kColumns, kTransposedB>;
  static constexpr int kStageElements = A::kElements + B::kElements;
  static constexpr int kStages = kColumns == 256 ? 4 : 6;
  /// Stages that are on their way: not the one that is multiplied, nor the one before it, whose
  /// products are waited for behind the barrier.
  static constexpr int kAhead = kStages - 2;
  static constexpr size_t kSharedBytes = kStages * kStageElements * sizeof(bf16);

  __device__ static void run(const TileProblem& p, unsigned char* shared) {
    bf16* stages = reinterpret_cast<bf16*>(shared);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    // The same for a whole warp, which the compiler cannot know.
    const int group = __shfl_sync(~0u, thread / kWarpgroupThreads, 0);
    const int first_row = group * kWgmmaBox + thread % kWarpgroupThreads / 32 * 16 + lane / 4;
    const int first_column = lane % 4 * 2;

    float sum[kColumns / 2];
    MOERL_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0.0f;
    if (p.finish == Finish::kContinue)
      for_each_pair<float>(p, first_row, first_column, [&](const Pair<float>& c, int i) {
        sum[i] = c.first;
        sum[i + 1] = c.second;
      });

    const int64_t blocks = (p.depth + kWgmmaDepth - 1) / kWgmmaDepth;
    auto request = [&](int64_t block) {
      bf16* stage = stages + block % kStages * kStageElements;
      if (block < blocks) {
        A::copy(p.a, p.rows, p.depth, block * kWgmmaDepth, stage);
        B::copy(p.b, p.columns, p.depth, block * kWgmmaDepth, stage + A::kElements);
      }
      cp_async_commit();
    };
    for (int s = 0; s < kAhead; ++s) request(s);
    for (int64_t block = 0; block < blocks; ++block) {
      cp_async_wait<kAhead - 1>();
      fence_for_wgmma();
      __syncthreads();  // the block is there, and all are done with the one before the last
      const bf16* a = stages + block % kStages * kStageElements + group * kWgmmaBox * kWgmmaDepth;
      const bf16* b = stages + block % kStages * kStageElements + A::kElements;
      auto multiply = [&](int step) {
        wgmma_bf16<kColumns, kTransposedA, kTransposedB>(
            sum, wgmma_operand<kTransposedA>(advance_depth<kTransposedA>(a, step)),
            wgmma_operand<kTransposedB>(advance_depth<kTransposedB>(b, step)));
      };
      wgmma_fence();
      multiply(0);
      multiply(1);
      if (p.depth - block * kWgmmaDepth > kMmaDepth) {
        multiply(2);
        multiply(3);
      }
      wgmma_commit();
      request(block + kAhead);
      wgmma_wait<1>();
    }
    wgmma_finish(sum);
    if (p.c_is_bf16)
      finish<bf16>(p, first_row, first_column, sum);
    else
      finish<float>(p, first_row, first_column, sum);
  }

 private:
  /// f(pair of c, its index in sum) for the pairs of this thread that c has.
  template <typename T, typename F>
  __device__ static void for_each_pair(const TileProblem& p, int first_row, int first_column,
                                       const F& f) {
    MOERL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + 8 * half;
      T* c = static_cast<T*>(p.c) + row * p.c_stride + first_column;
      const int64_t valid = row < p.rows ? p.columns - first_column : 0;
      MOERL_UNROLL
      for (int j = 0; j < kColumns / 8; ++j)
        if (8 * j < valid) f(*reinterpret_cast<Pair<T>*>(c + 8 * j), 4 * j + 2 * half);
    }
  }

  template <typename T>
  __device__ static void finish(const TileProblem& p, int first_row, int first_column,
                                const float (&sum)[kColumns / 2]) {
    for_each_pair<T>(p, first_row, first_column, [&](Pair<T>& c, int i) {
      const bool add = p.finish == Finish::kAdd;
      Pair<T> result;
      store(&result.first, add ? load(&c.first) + sum[i] : sum[i]);
      store(&result.second, add ? load(&c.second) + sum[i + 1] : sum[i + 1]);
      c = result;
    });
  }
};

}  // namespace moerl::kernels::cuda
