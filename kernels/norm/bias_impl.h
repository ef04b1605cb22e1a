#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

template <Isa isa>
struct BiasCpu {
  /// Rows [begin, end) of [.., width].
  static void forward(const float* x, const float* bias, DType y_type, void* y, int64_t width,
                      int64_t begin, int64_t end);
  /// Columns [begin, end) of all rows.
  static void backward(DType dtype, const void* dy, int64_t rows, int64_t width, float* dbias,
                       int64_t begin, int64_t end);
};

struct BiasCuda {
  void (*forward)(const float* x, const float* bias, DType y_type, void* y, int64_t rows,
                  int64_t width);
  void (*backward)(DType dtype, const void* dy, int64_t rows, int64_t width, float* dbias);
};

}  // namespace moerl::kernels
