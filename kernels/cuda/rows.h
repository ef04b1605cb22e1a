#pragma once
// Sums over a row by a team of 64 threads, in the order of kernels/cpu/lanes.h: a row's bits are
// those of the CPU, and depend on the row alone.

#include "kernels/cuda/math.h"

namespace moerl::kernels::cuda {

/// Threads of a block that serves one row, and the floats of shared memory they need.
inline constexpr int kRowThreads = 64;
inline constexpr size_t kRowScratchBytes = kRowThreads * sizeof(float);

/// The lane tree: each sixteen lanes of a warp add up what they hold, and all of them get the sum.
__device__ __forceinline__ float sum_lanes(float lane) {
  for (int half = 8; half >= 1; half /= 2) lane = lane + __shfl_xor_sync(~0u, lane, half);
  return lane;
}

/// A combination over the team of one value for each thread; every thread gets it.
template <typename Combine>
__device__ __forceinline__ float reduce_team(float value, float* scratch, const Combine& combine) {
  // Thread i holds lane i mod 16 of accumulator i / 16.
  scratch[threadIdx.x] = value;
  __syncthreads();
  const float* lane = scratch + threadIdx.x % 16;
  float total = combine(combine(lane[0], lane[16]), combine(lane[32], lane[48]));
  for (int half = 8; half >= 1; half /= 2)
    total = combine(total, __shfl_xor_sync(~0u, total, half));
  __syncthreads();  // before the scratch is written again
  return total;
}

/// The sum of what f adds along [0, n): f(accumulator, i) returns the accumulator with element i.
template <typename F>
__device__ __forceinline__ float sum_row(int64_t n, float* scratch, const F& f) {
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < n; i += kRowThreads) sum = f(sum, i);
  return reduce_team(sum, scratch, [](float a, float b) { return a + b; });
}

}  // namespace moerl::kernels::cuda
