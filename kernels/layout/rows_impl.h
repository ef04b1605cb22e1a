#pragma once
#include <cstdint>

namespace moerl::kernels {

/// Rows of `bytes` bytes, a multiple of 2, on the device.
struct RowsCuda {
  /// y[i] = x[rows[i]]
  void (*gather)(const void* x, const int32_t* rows, int64_t count, int64_t bytes, void* y);
  /// x[rows[i]] = y[i]
  void (*scatter)(const void* y, const int32_t* rows, int64_t count, int64_t bytes, void* x);
};

}  // namespace moerl::kernels
