#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/layout/runs_impl.h"

namespace moerl::kernels::cuda {
namespace {

__device__ __forceinline__ int64_t begin_of(const HeadRuns& runs, int64_t t, int64_t h) {
  return runs.offset + t * runs.token_stride + h * runs.head_stride;
}

template <typename Bits>
void copy_as(const RunExtent& extent, const void* src, const HeadRuns& from, void* dst,
             const HeadRuns& to) {
  const Bits* source = static_cast<const Bits*>(src);
  Bits* target = static_cast<Bits*>(dst);
  const RunExtent e = extent;
  const HeadRuns from_ = from, to_ = to;
  launch_each("copy_runs", e.num_tokens * e.num_heads * e.width, [=] __device__(int64_t n) {
    const int64_t i = n % e.width, h = n / e.width % e.num_heads, t = n / e.width / e.num_heads;
    target[begin_of(to_, t, h) + i] = source[begin_of(from_, t, h) + i];
  });
}

void copy(DType dtype, const RunExtent& extent, const void* src, const HeadRuns& from, void* dst,
          const HeadRuns& to) {
  if (dtype_size(dtype) == 2)
    copy_as<uint16_t>(extent, src, from, dst, to);
  else
    copy_as<uint32_t>(extent, src, from, dst, to);
}

template <typename T>
void sum_as(const RunExtent& extent, const T* src, const HeadRuns& from, T* dst) {
  const RunExtent e = extent;
  const HeadRuns from_ = from;
  launch_each("sum_head_runs", e.num_tokens * e.width, [=] __device__(int64_t n) {
    const int64_t i = n % e.width, t = n / e.width;
    float sum = 0.0f;
    for (int64_t h = 0; h < e.num_heads; ++h) sum = sum + load(src + begin_of(from_, t, h) + i);
    store(dst + n, sum);
  });
}

void sum(DType dtype, const RunExtent& extent, const void* src, const HeadRuns& from, void* dst) {
  if (dtype == DType::kBF16)
    sum_as(extent, static_cast<const bf16*>(src), from, static_cast<bf16*>(dst));
  else
    sum_as(extent, static_cast<const float*>(src), from, static_cast<float*>(dst));
}

const RegisterCudaOps<RunsCuda> registered({copy, sum});

}  // namespace
}  // namespace moerl::kernels::cuda
