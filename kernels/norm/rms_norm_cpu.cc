#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/norm/rms_norm_impl.h"

namespace moerl::kernels {
namespace {

template <typename T>
void forward_row(const RmsNormForwardArgs& args, int64_t t) {
  const int64_t dim = args.dim;
  T* x = static_cast<T*>(args.x) + t * dim;
  T* y = static_cast<T*>(args.y) + t * dim;
  float sum;
  if (args.delta != nullptr) {
    const T* delta = static_cast<const T*>(args.delta) + t * dim;
    sum = sum_row(dim, [&](F32x16 acc, int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
      store_n(x + d, load_n(x + d, n) + load_n(delta + d, n), n);
      const F32x16 rounded = load_n(x + d, n);
      return fma(rounded, rounded, acc);
    });
  } else {
    sum = sum_row(dim, [&](F32x16 acc, int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
      const F32x16 v = load_n(x + d, n);
      return fma(v, v, acc);
    });
  }
  const float rstd = 1.0f / __builtin_sqrtf(sum / static_cast<float>(dim) + args.eps);
  if (args.rstd != nullptr) args.rstd[t] = rstd;
  const F32x16 scale = set1(rstd);
  for_each_lanes(dim, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(y + d, load_n(x + d, n) * scale * load_n(args.weight + d, n), n);
  });
}

template <typename T>
void backward_row(const RmsNormBackwardArgs& args, int64_t t, float* partial) {
  const int64_t dim = args.dim;
  const T* dy = static_cast<const T*>(args.dy) + t * dim;
  const T* x = static_cast<const T*>(args.x) + t * dim;
  T* dx = static_cast<T*>(args.dx) + t * dim;
  const F32x16 rstd = set1(args.rstd[t]);
  const float sum = sum_row(dim, [&](F32x16 acc, int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 g = load_n(dy + d, n) * load_n(args.weight + d, n);
    return fma(g, load_n(x + d, n) * rstd, acc);
  });
  const F32x16 minus_mean = set1(-(sum / static_cast<float>(dim)));
  for_each_lanes(dim, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 up = load_n(dy + d, n), normalised = load_n(x + d, n) * rstd;
    const F32x16 g = up * load_n(args.weight + d, n);
    F32x16 down = rstd * fma(normalised, minus_mean, g);
    if (args.accumulate) down = load_n(dx + d, n) + down;
    store_n(dx + d, down, n);
    store_n(partial + d, fma(up, normalised, load_n(partial + d, n)), n);
  });
}

}  // namespace

template <>
void RmsNormCpu<kIsa>::forward(const RmsNormForwardArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t)
    args.dtype == DType::kBF16 ? forward_row<bf16>(args, t) : forward_row<float>(args, t);
}

template <>
void RmsNormCpu<kIsa>::backward(const RmsNormBackwardArgs& args, int64_t begin, int64_t end,
                                float* partial) {
  std::memset(partial, 0, static_cast<size_t>(args.dim) * sizeof(float));
  for (int64_t t = begin; t < end; ++t)
    args.dtype == DType::kBF16 ? backward_row<bf16>(args, t, partial)
                               : backward_row<float>(args, t, partial);
}

template <>
void RmsNormCpu<kIsa>::reduce(const float* partials, int64_t count, int64_t dim, float* dweight,
                              int64_t begin, int64_t end) {
  for_each_lanes(end - begin, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    F32x16 sum = load_n(partials + begin + d, n);
    for (int64_t b = 1; b < count; ++b) sum = sum + load_n(partials + b * dim + begin + d, n);
    store_n(dweight + begin + d, load_n(dweight + begin + d, n) + sum, n);
  });
}

}  // namespace moerl::kernels
