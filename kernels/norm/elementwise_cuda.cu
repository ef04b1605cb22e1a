#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/norm/elementwise_impl.h"

namespace moerl::kernels::cuda {
namespace {

template <typename T>
void add_as(const T* src, T* dst, int64_t count) {
  launch_each("add_inplace", count,
              [=] __device__(int64_t i) { store(dst + i, load(dst + i) + load(src + i)); });
}

template <typename From, typename To>
void cast_as(const void* src, void* dst, int64_t count) {
  const From* from = static_cast<const From*>(src);
  To* to = static_cast<To*>(dst);
  launch_each("cast", count, [=] __device__(int64_t i) { store(to + i, load(from + i)); });
}

template <typename Bits>
void copy_as(const void* src, void* dst, int64_t rows, int64_t width, int64_t src_stride,
             int64_t dst_stride) {
  const Bits* from = static_cast<const Bits*>(src);
  Bits* to = static_cast<Bits*>(dst);
  launch_each("copy_columns", rows * width, [=] __device__(int64_t i) {
    to[i / width * dst_stride + i % width] = from[i / width * src_stride + i % width];
  });
}

void add(DType dtype, const void* src, void* dst, int64_t count) {
  if (dtype == DType::kBF16)
    add_as(static_cast<const bf16*>(src), static_cast<bf16*>(dst), count);
  else
    add_as(static_cast<const float*>(src), static_cast<float*>(dst), count);
}

void copy_rows(DType dtype, int64_t rows, int64_t width, const void* src, int64_t src_stride,
               void* dst, int64_t dst_stride) {
  if (dtype == DType::kBF16)
    copy_as<uint16_t>(src, dst, rows, width, src_stride, dst_stride);
  else
    copy_as<uint32_t>(src, dst, rows, width, src_stride, dst_stride);
}

void cast(DType from, const void* src, DType to, void* dst, int64_t count) {
  if (from == to)
    copy_rows(from, 1, count, src, count, dst, count);
  else if (to == DType::kBF16)
    cast_as<float, bf16>(src, dst, count);
  else
    cast_as<bf16, float>(src, dst, count);
}

const RegisterCudaOps<ElementwiseCuda> registered({add, cast, copy_rows});

}  // namespace
}  // namespace moerl::kernels::cuda
