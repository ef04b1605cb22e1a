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

/// All `count` elements, or `rows` rows, on the device.
struct ElementwiseCuda {
  void (*add)(DType dtype, const void* src, void* dst, int64_t count);
  void (*cast)(DType from, const void* src, DType to, void* dst, int64_t count);
  /// dst[t, 0 : width) = src[t, 0 : width) in elements of `dtype`, for rows that lie apart.
  void (*copy_rows)(DType dtype, int64_t rows, int64_t width, const void* src, int64_t src_stride,
                    void* dst, int64_t dst_stride);
};

}  // namespace moerl::kernels
