#pragma once
#include "kernels/tensor.h"

namespace moerl::kernels {

// Argument checks shared by the kernels' entry points. Messages read
// "op: argument is GOT, expected WANTED"; all throw std::invalid_argument.

inline void check_shape(const char* op, const char* name, const Tensor& tensor,
                        const Shape& expected) {
  check(tensor.defined(), op, ": ", name, " is undefined, expected ", expected);
  check(tensor.shape() == expected, op, ": ", name, " is ", tensor.shape(), ", expected ",
        expected);
}

inline void check_rank(const char* op, const char* name, const Tensor& tensor, size_t rank) {
  check(tensor.defined(), op, ": ", name, " is undefined, expected rank ", rank);
  check(tensor.shape().rank() == rank, op, ": ", name, " is ", tensor.shape(), ", expected rank ",
        rank);
}

inline void check_dtype(const char* op, const char* name, const Tensor& tensor, DType expected) {
  check(tensor.dtype() == expected, op, ": ", name, " is ", dtype_name(tensor.dtype()),
        ", expected ", dtype_name(expected));
}

inline void check_f32_or_bf16(const char* op, const char* name, const Tensor& tensor) {
  check(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16, op, ": ", name, " is ",
        dtype_name(tensor.dtype()), ", expected f32 or bf16");
}

inline void check_size(const char* op, const char* name, size_t size, int64_t expected) {
  check(static_cast<int64_t>(size) == expected, op, ": ", name, " has ", size,
        " elements, expected ", expected);
}

/// For an argument that may be left out: empty, or of the expected size.
inline void check_size_or_empty(const char* op, const char* name, size_t size, int64_t expected) {
  if (size != 0) check_size(op, name, size, expected);
}

}  // namespace moerl::kernels
