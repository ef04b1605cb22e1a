#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/norm/bias_impl.h"

namespace moerl::kernels {
namespace {

template <typename T>
void forward_rows(const float* x, const float* bias, T* y, int64_t width, int64_t begin,
                  int64_t end) {
  for (int64_t t = begin; t < end; ++t)
    for_each_lanes(width, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
      store_n(y + t * width + i, load_n(x + t * width + i, n) + load_n(bias + i, n), n);
    });
}

template <typename T>
void backward_columns(const T* dy, int64_t rows, int64_t width, float* dbias, int64_t begin,
                      int64_t end) {
  for_each_lanes(end - begin, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    F32x16 sum = load_n(dbias + begin + i, n);
    for (int64_t t = 0; t < rows; ++t) sum = sum + load_n(dy + t * width + begin + i, n);
    store_n(dbias + begin + i, sum, n);
  });
}

}  // namespace

template <>
void BiasCpu<kIsa>::forward(const float* x, const float* bias, DType y_type, void* y, int64_t width,
                            int64_t begin, int64_t end) {
  if (y_type == DType::kBF16)
    forward_rows(x, bias, static_cast<bf16*>(y), width, begin, end);
  else
    forward_rows(x, bias, static_cast<float*>(y), width, begin, end);
}

template <>
void BiasCpu<kIsa>::backward(DType dtype, const void* dy, int64_t rows, int64_t width, float* dbias,
                             int64_t begin, int64_t end) {
  if (dtype == DType::kBF16)
    backward_columns(static_cast<const bf16*>(dy), rows, width, dbias, begin, end);
  else
    backward_columns(static_cast<const float*>(dy), rows, width, dbias, begin, end);
}

}  // namespace moerl::kernels
