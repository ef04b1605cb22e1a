#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/embedding/embedding_impl.h"

namespace moerl::kernels {
namespace {

template <typename From, typename To>
void forward_rows(const From* table, int64_t dim, const int32_t* ids, To* y, int64_t begin,
                  int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const From* row = table + ids[t] * dim;
    To* out = y + t * dim;
    for_each_lanes(dim, [&](int64_t d, int64_t n)
                            MOERL_INLINE_LAMBDA { store_n(out + d, load_n(row + d, n), n); });
  }
}

template <typename T>
void backward_columns(const T* dy, int64_t dim, const int32_t* ids, int64_t count, float* dtable,
                      int64_t begin, int64_t end) {
  for (int64_t t = 0; t < count; ++t) {
    float* row = dtable + ids[t] * dim + begin;
    const T* in = dy + t * dim + begin;
    for_each_lanes(end - begin, [&](int64_t d, int64_t n) MOERL_INLINE_LAMBDA {
      store_n(row + d, load_n(row + d, n) + load_n(in + d, n), n);
    });
  }
}

}  // namespace

template <>
void EmbeddingCpu<kIsa>::forward(DType table_dtype, const void* table, int64_t dim,
                                 const int32_t* ids, DType dtype, void* y, int64_t begin,
                                 int64_t end) {
  if (table_dtype == DType::kBF16)
    forward_rows(static_cast<const bf16*>(table), dim, ids, static_cast<bf16*>(y), begin, end);
  else if (dtype == DType::kBF16)
    forward_rows(static_cast<const float*>(table), dim, ids, static_cast<bf16*>(y), begin, end);
  else
    forward_rows(static_cast<const float*>(table), dim, ids, static_cast<float*>(y), begin, end);
}

template <>
void EmbeddingCpu<kIsa>::backward(DType dtype, const void* dy, int64_t dim, const int32_t* ids,
                                  int64_t count, float* dtable, int64_t begin, int64_t end) {
  if (dtype == DType::kBF16)
    backward_columns(static_cast<const bf16*>(dy), dim, ids, count, dtable, begin, end);
  else
    backward_columns(static_cast<const float*>(dy), dim, ids, count, dtable, begin, end);
}

}  // namespace moerl::kernels
