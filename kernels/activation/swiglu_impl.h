#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// Rows [begin, end) of [T, I] (hidden) and [T, 2 I] (gate_up).
template <Isa isa>
struct SwigluCpu {
  static void forward(DType dtype, int64_t inner, const void* gate_up, void* hidden, int64_t begin,
                      int64_t end);
  static void backward(DType dtype, int64_t inner, const void* dhidden, const void* gate_up,
                       void* dgate_up, int64_t begin, int64_t end);
};

/// All rows, on the device.
struct SwigluCuda {
  void (*forward)(DType dtype, int64_t inner, int64_t rows, const void* gate_up, void* hidden);
  void (*backward)(DType dtype, int64_t inner, int64_t rows, const void* dhidden,
                   const void* gate_up, void* dgate_up);
};

}  // namespace moerl::kernels
