#pragma once
// Which threads of a block hold something, in their order.

#include "kernels/cuda/device.h"

namespace moerl::kernels::cuda {

inline constexpr int kSelectThreads = 256, kSelectWarps = kSelectThreads / 32;

/// By a block of kSelectThreads threads.
class Selection {
 public:
  static constexpr size_t kSharedBytes = (kSelectThreads + kSelectWarps) * sizeof(int);

  __device__ explicit Selection(unsigned char* shared)
      : chosen_(reinterpret_cast<int*>(shared)), counts_(chosen_ + kSelectThreads) {}

  /// The number of threads that call it with true; chosen(i) is the i-th of them. Between two calls
  /// the block meets at a barrier.
  __device__ int select(bool mine) const {
    const int rank = place(mine);
    if (mine) chosen_[rank] = static_cast<int>(threadIdx.x);
    __syncthreads();
    return total();
  }
  __device__ int chosen(int i) const { return chosen_[i]; }

  /// How many threads before this one call it with true. total() is that number for all.
  __device__ int place(bool mine) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t votes = __ballot_sync(~0u, mine);
    if (lane == 0) counts_[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < warp; ++w) before += counts_[w];
    return before;
  }
  __device__ int total() const {
    int sum = 0;
    for (int w = 0; w < kSelectWarps; ++w) sum += counts_[w];
    return sum;
  }

 private:
  int *chosen_, *counts_;
};

}  // namespace moerl::kernels::cuda
