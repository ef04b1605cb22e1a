#include "kernels/activation/swiglu_impl.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"

namespace moerl::kernels::cuda {
namespace {

template <typename T>
void forward_as(int64_t inner, int64_t rows, const T* gate_up, T* hidden) {
  launch_each("swiglu", rows * inner, [=] __device__(int64_t i) {
    const int64_t t = i / inner, column = i % inner;
    const T* gate = gate_up + 2 * t * inner + column;
    const float a = load(gate);
    store(hidden + i, a / (1.0f + exp(0.0f - a)) * load(gate + inner));
  });
}

template <typename T>
void backward_as(int64_t inner, int64_t rows, const T* dhidden, const T* gate_up, T* dgate_up) {
  launch_each("swiglu_backward", rows * inner, [=] __device__(int64_t i) {
    const int64_t t = i / inner, column = i % inner, at = 2 * t * inner + column;
    const float a = load(gate_up + at), b = load(gate_up + at + inner), dh = load(dhidden + i);
    const float s = sigmoid(a);
    store(dgate_up + at, dh * b * s * fma(a, 1.0f - s, 1.0f));
    store(dgate_up + at + inner, dh * (a * s));
  });
}

void forward(DType dtype, int64_t inner, int64_t rows, const void* gate_up, void* hidden) {
  if (dtype == DType::kBF16)
    forward_as(inner, rows, static_cast<const bf16*>(gate_up), static_cast<bf16*>(hidden));
  else
    forward_as(inner, rows, static_cast<const float*>(gate_up), static_cast<float*>(hidden));
}

void backward(DType dtype, int64_t inner, int64_t rows, const void* dhidden, const void* gate_up,
              void* dgate_up) {
  if (dtype == DType::kBF16)
    backward_as(inner, rows, static_cast<const bf16*>(dhidden), static_cast<const bf16*>(gate_up),
                static_cast<bf16*>(dgate_up));
  else
    backward_as(inner, rows, static_cast<const float*>(dhidden), static_cast<const float*>(gate_up),
                static_cast<float*>(dgate_up));
}

const RegisterCudaOps<SwigluCuda> registered({forward, backward});

}  // namespace
}  // namespace moerl::kernels::cuda
