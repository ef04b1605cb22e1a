#pragma once
// The splits of attention.h: one after the other in a block, or side by side in blocks of their own
// that leave partial results to a kernel which merges them. Included by attention_*cuda.* only.

#include "kernels/attention/attention_impl.h"
#include "kernels/cuda/math.h"

namespace moerl::kernels::cuda {

/// What a row has of some splits: m and l.
struct SplitSum {
  float max = -INFINITY, total = 0.0f;

  /// What acc before and acc of the next split are multiplied with: acc = fma(b, now, acc before).
  struct Factors {
    float before, now;
  };
  /// Merges the next split.
  __device__ __forceinline__ Factors merge(const SplitSum& next) {
    const float both = next.max > max ? next.max : max;
    const Factors f{exp(max - both), exp(next.max - both)};
    max = both;
    total = fma(next.total, f.now, total * f.before);
    return f;
  }
};

/// The positions that a block goes over for its rows: [begin, end), whole splits but for the last.
struct SplitWalk {
  int64_t begin, end;

  /// @param last  the last position that one of the rows sees.
  __device__ SplitWalk(const AttentionForwardCuda& args, int64_t split, int64_t last)
      : begin(args.partials == nullptr ? 0 : split * kKvSplit), end(last + 1) {
    if (args.partials != nullptr && end > begin + kKvSplit) end = begin + kKvSplit;
  }
};

/// Partial results in the workspace: m, l and acc of each row of the batch, for each split.
__device__ inline float* partial_of(const AttentionForwardCuda& args, int64_t split, int64_t row) {
  return args.partials +
         (split * args.rows * args.dims.num_heads + row) * attention_partial_floats(args.dims);
}

/// A thread for each column of each row: grid.y is the segment.
template <typename T>
__global__ void __launch_bounds__(kThreads) merge_splits_kernel(AttentionForwardCuda args) {
  const AttentionSegmentCuda segment = args.segments[blockIdx.y];
  const AttentionDims& d = args.dims;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= segment.num_rows * d.num_heads * d.v_dim) return;
  const int64_t row = segment.first_row * d.num_heads + i / d.v_dim, column = i % d.v_dim;
  const int64_t position = segment.start + i / d.v_dim / d.num_heads;
  const float* partial = partial_of(args, 0, row);
  SplitSum sum{partial[0], partial[1]};
  float acc = partial[2 + column];
  for (int64_t split = 1; split * kKvSplit <= position; ++split) {
    partial = partial_of(args, split, row);
    const SplitSum::Factors f = sum.merge({partial[0], partial[1]});
    acc = fma(partial[2 + column], f.now, acc * f.before);
  }
  store(static_cast<T*>(args.o) + row * d.v_dim + column, acc / sum.total);
  if (args.lse != nullptr && column == 0) args.lse[row] = sum.max + log(sum.total);
}

}  // namespace moerl::kernels::cuda
