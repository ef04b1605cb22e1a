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

void add(DType dtype, const void* src, void* dst, int64_t count) {
  if (dtype == DType::kBF16)
    add_as(static_cast<const bf16*>(src), static_cast<bf16*>(dst), count);
  else
    add_as(static_cast<const float*>(src), static_cast<float*>(dst), count);
}

void cast(DType from, const void* src, DType to, void* dst, int64_t count) {
  if (from == DType::kF32)
    to == DType::kBF16 ? cast_as<float, bf16>(src, dst, count)
                       : cast_as<float, float>(src, dst, count);
  else
    to == DType::kBF16 ? cast_as<bf16, bf16>(src, dst, count)
                       : cast_as<bf16, float>(src, dst, count);
}

const RegisterCudaOps<ElementwiseCuda> registered({add, cast});

}  // namespace
}  // namespace moerl::kernels::cuda
