#pragma once
// Included by attention_backward*_cuda.* only.

#include "kernels/attention/attention_impl.h"
#include "kernels/cuda/device.h"

namespace moerl::kernels::cuda {

/// Where the rows and keys of one (segment, key head) lie among those of the batch. Its rows are
/// fewer than 2^31: 64-bit divisions are slow.
struct AttentionPlace {
  const AttentionBackwardCuda& args;
  AttentionSegmentCuda segment;
  int64_t kv_head;

  __device__ int group() const {
    return static_cast<int>(args.dims.num_heads) / static_cast<int>(args.dims.num_kv_heads);
  }
  __device__ int64_t num_rows() const { return segment.num_rows * group(); }
  __device__ int position(int64_t row) const { return static_cast<int>(row) / group(); }
  /// Among the batch's T * H rows and T * Hk keys.
  __device__ int64_t batch_row(int64_t row) const {
    return (segment.first_row + position(row)) * args.dims.num_heads + kv_head * group() +
           static_cast<int>(row) % group();
  }
  __device__ int64_t batch_key(int64_t position) const {
    return (segment.first_row + position) * args.dims.num_kv_heads + kv_head;
  }
  /// -1 behind the segment's end.
  __device__ int64_t find_row(int64_t row) const { return row < num_rows() ? batch_row(row) : -1; }
  __device__ int64_t find_key(int64_t position) const {
    return position < segment.num_rows ? batch_key(position) : -1;
  }
};

}  // namespace moerl::kernels::cuda
