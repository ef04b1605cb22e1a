#include "kernels/activation/swiglu_impl.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"

namespace moerl::kernels {
namespace {

template <typename T>
void forward_row(int64_t inner, const T* gate, const T* up, T* hidden) {
  const F32x16 one = set1(1.0f);
  for_each_lanes(inner, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 a = load_n(gate + i, n);
    store_n(hidden + i, a / (one + exp(zero() - a)) * load_n(up + i, n), n);
  });
}

template <typename T>
void backward_row(int64_t inner, const T* dhidden, const T* gate, const T* up, T* dgate, T* dup) {
  const F32x16 one = set1(1.0f);
  for_each_lanes(inner, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 a = load_n(gate + i, n), b = load_n(up + i, n), dh = load_n(dhidden + i, n);
    const F32x16 s = sigmoid(a);
    store_n(dgate + i, dh * b * s * fma(a, one - s, one), n);
    store_n(dup + i, dh * (a * s), n);
  });
}

}  // namespace

template <>
void SwigluCpu<kIsa>::forward(DType dtype, int64_t inner, const void* gate_up, void* hidden,
                              int64_t begin, int64_t end) {
  const auto rows = [&](const auto* in, auto* out) {
    for (int64_t t = begin; t < end; ++t)
      forward_row(inner, in + 2 * t * inner, in + (2 * t + 1) * inner, out + t * inner);
  };
  if (dtype == DType::kBF16)
    rows(static_cast<const bf16*>(gate_up), static_cast<bf16*>(hidden));
  else
    rows(static_cast<const float*>(gate_up), static_cast<float*>(hidden));
}

template <>
void SwigluCpu<kIsa>::backward(DType dtype, int64_t inner, const void* dhidden, const void* gate_up,
                               void* dgate_up, int64_t begin, int64_t end) {
  const auto rows = [&](const auto* dh, const auto* in, auto* out) {
    for (int64_t t = begin; t < end; ++t)
      backward_row(inner, dh + t * inner, in + 2 * t * inner, in + (2 * t + 1) * inner,
                   out + 2 * t * inner, out + (2 * t + 1) * inner);
  };
  if (dtype == DType::kBF16)
    rows(static_cast<const bf16*>(dhidden), static_cast<const bf16*>(gate_up),
         static_cast<bf16*>(dgate_up));
  else
    rows(static_cast<const float*>(dhidden), static_cast<const float*>(gate_up),
         static_cast<float*>(dgate_up));
}

}  // namespace moerl::kernels
