#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/moe/permute_impl.h"

namespace moerl::kernels {
namespace {

template <typename T>
void expand_backward_token(const PermuteArgs& args, int64_t t) {
  const int64_t dim = args.dim, k = args.num_topk;
  const int32_t* row = args.row_of_slot + t * k;
  const T* dy = static_cast<const T*>(args.by_row);
  T* dx = static_cast<T*>(args.token_out) + t * dim;
  for_each_lanes(dim, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    F32x16 sum = load_n(dy + row[0] * dim + d, n);
    for (int64_t i = 1; i < k; ++i) sum = sum + load_n(dy + row[i] * dim + d, n);
    if (args.accumulate) sum = load_n(dx + d, n) + sum;
    store_n(dx + d, sum, n);
  });
}

template <typename T>
void reduce_token(const PermuteArgs& args, int64_t t) {
  const int64_t dim = args.dim, k = args.num_topk;
  const int32_t* row = args.row_of_slot + t * k;
  const float* weights = args.weights + t * k;
  const T* x = static_cast<const T*>(args.by_row);
  const T* shared = args.shared == nullptr ? nullptr : static_cast<const T*>(args.shared) + t * dim;
  T* y = static_cast<T*>(args.token_out) + t * dim;
  for_each_lanes(dim, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
    F32x16 sum = shared == nullptr ? zero() : load_n(shared + d, n);
    for (int64_t i = 0; i < k; ++i)
      sum = fma(set1(weights[i]), load_n(x + row[i] * dim + d, n), sum);
    store_n(y + d, sum, n);
  });
}

template <typename T>
void reduce_backward_token(const PermuteArgs& args, int64_t t) {
  const int64_t dim = args.dim, k = args.num_topk;
  const T* dy = static_cast<const T*>(args.by_token) + t * dim;
  for (int64_t i = t * k; i < (t + 1) * k; ++i) {
    const T* x = static_cast<const T*>(args.by_row) + args.row_of_slot[i] * dim;
    T* dx = static_cast<T*>(args.row_out) + args.row_of_slot[i] * dim;
    const F32x16 weight = set1(args.weights[i]);
    args.dweights[i] = sum_row(dim, [&](F32x16 sum, int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
      const F32x16 g = load_n(dy + d, n);
      const F32x16 next = fma(g, load_n(x + d, n), sum);
      store_n(dx + d, weight * g, n);
      return next;
    });
  }
}

}  // namespace

template <>
void PermuteCpu<kIsa>::expand(const PermuteArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.dim * (args.is_bf16 ? 2 : 4);
  for (int64_t t = begin; t < end; ++t)
    for (int64_t i = t * args.num_topk; i < (t + 1) * args.num_topk; ++i)
      std::memcpy(static_cast<char*>(args.row_out) + args.row_of_slot[i] * width,
                  static_cast<const char*>(args.by_token) + t * width, static_cast<size_t>(width));
}

template <>
void PermuteCpu<kIsa>::expand_backward(const PermuteArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t)
    args.is_bf16 ? expand_backward_token<bf16>(args, t) : expand_backward_token<float>(args, t);
}

template <>
void PermuteCpu<kIsa>::reduce(const PermuteArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t)
    args.is_bf16 ? reduce_token<bf16>(args, t) : reduce_token<float>(args, t);
}

template <>
void PermuteCpu<kIsa>::reduce_backward(const PermuteArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t)
    args.is_bf16 ? reduce_backward_token<bf16>(args, t) : reduce_backward_token<float>(args, t);
}

}  // namespace moerl::kernels
