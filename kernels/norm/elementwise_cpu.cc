#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/norm/elementwise_impl.h"

namespace moerl::kernels {
namespace {

template <typename T>
void add_range(const T* src, T* dst, int64_t count) {
  for_each_lanes(count, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(dst + i, load_n(dst + i, n) + load_n(src + i, n), n);
  });
}

template <typename From, typename To>
void cast_range(const From* src, To* dst, int64_t count) {
  for_each_lanes(count, [&](int64_t i, int64_t n)
                            MOERL_INLINE_LAMBDA { store_n(dst + i, load_n(src + i, n), n); });
}

}  // namespace

template <>
void ElementwiseCpu<kIsa>::add(DType dtype, const void* src, void* dst, int64_t begin,
                               int64_t end) {
  if (dtype == DType::kBF16)
    add_range(static_cast<const bf16*>(src) + begin, static_cast<bf16*>(dst) + begin, end - begin);
  else
    add_range(static_cast<const float*>(src) + begin, static_cast<float*>(dst) + begin,
              end - begin);
}

template <>
void ElementwiseCpu<kIsa>::cast(DType from, const void* src, DType to, void* dst, int64_t begin,
                                int64_t end) {
  const int64_t count = end - begin;
  if (from == to)
    std::memcpy(static_cast<char*>(dst) + begin * dtype_size(to),
                static_cast<const char*>(src) + begin * dtype_size(to),
                static_cast<size_t>(count * dtype_size(to)));
  else if (to == DType::kBF16)
    cast_range(static_cast<const float*>(src) + begin, static_cast<bf16*>(dst) + begin, count);
  else
    cast_range(static_cast<const bf16*>(src) + begin, static_cast<float*>(dst) + begin, count);
}

}  // namespace moerl::kernels
