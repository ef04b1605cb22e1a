#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/norm/bias_impl.h"

namespace moerl::kernels::cuda {
namespace {

template <typename T>
void forward_as(const float* x, const float* bias, T* y, int64_t rows, int64_t width) {
  launch_each("bias_forward", rows * width,
              [=] __device__(int64_t i) { store(y + i, x[i] + bias[i % width]); });
}

/// A thread a column: the chain over tokens is the specification.
template <typename T>
void backward_as(const T* dy, int64_t rows, int64_t width, float* dbias) {
  launch_each("bias_backward", width, [=] __device__(int64_t i) {
    float sum = dbias[i];
    for (int64_t t = 0; t < rows; ++t) sum = sum + load(dy + t * width + i);
    dbias[i] = sum;
  });
}

void forward(const float* x, const float* bias, DType y_type, void* y, int64_t rows,
             int64_t width) {
  if (y_type == DType::kBF16)
    forward_as(x, bias, static_cast<bf16*>(y), rows, width);
  else
    forward_as(x, bias, static_cast<float*>(y), rows, width);
}

void backward(DType dtype, const void* dy, int64_t rows, int64_t width, float* dbias) {
  if (dtype == DType::kBF16)
    backward_as(static_cast<const bf16*>(dy), rows, width, dbias);
  else
    backward_as(static_cast<const float*>(dy), rows, width, dbias);
}

const RegisterCudaOps<BiasCuda> registered({forward, backward});

}  // namespace
}  // namespace moerl::kernels::cuda
