#pragma once
// Numbers as integers that sort alike.

#include <bit>
#include <cstdint>

#include "kernels/cuda/device.h"

namespace moerl::kernels::cuda {

/// Larger for a larger value, and of equal values for the smaller index; a NaN is below all
/// numbers. Never 0.
__device__ __forceinline__ uint64_t order_key(float value, uint32_t index) {
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);  // -0 and 0 are a tie
  const uint32_t ordered = value != value ? 0 : bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | ~index;
}
__device__ __forceinline__ uint32_t index_of_key(uint64_t key) {
  return ~static_cast<uint32_t>(key);
}

/// The largest over a warp, for all its lanes.
__device__ __forceinline__ uint64_t max_of_warp(uint64_t key) {
  for (int half = 16; half >= 1; half /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, key, half);
    key = other > key ? other : key;
  }
  return key;
}

}  // namespace moerl::kernels::cuda
