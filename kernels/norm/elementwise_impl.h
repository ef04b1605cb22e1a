#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// Over elements [begin, end).
template <Isa isa>
struct ElementwiseCpu {
  static void add(DType dtype, const void* src, void* dst, int64_t begin, int64_t end);
  static void cast(DType from, const void* src, DType to, void* dst, int64_t begin, int64_t end);
};

/// All `count` elements, on the device.
struct ElementwiseCuda {
  void (*add)(DType dtype, const void* src, void* dst, int64_t count);
  void (*cast)(DType from, const void* src, DType to, void* dst, int64_t count);
};

}  // namespace moerl::kernels
