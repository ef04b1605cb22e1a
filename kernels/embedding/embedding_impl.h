#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

template <Isa isa>
struct EmbeddingCpu {
  /// Tokens [begin, end).
  static void forward(DType table_dtype, const void* table, int64_t dim, const int32_t* ids,
                      DType dtype, void* y, int64_t begin, int64_t end);
  /// All tokens, columns [begin, end).
  static void backward(DType dtype, const void* dy, int64_t dim, const int32_t* ids, int64_t count,
                       float* dtable, int64_t begin, int64_t end);
};

/// All tokens; ids are on the device.
struct EmbeddingCuda {
  void (*forward)(DType table_dtype, const void* table, int64_t dim, const int32_t* ids,
                  int64_t count, DType dtype, void* y);
  void (*backward)(DType dtype, const void* dy, int64_t dim, const int32_t* ids, int64_t count,
                   float* dtable);
};

}  // namespace moerl::kernels
