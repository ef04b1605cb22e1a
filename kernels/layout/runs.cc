#include "kernels/layout/runs.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/layout/runs_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kElementsPerChunk = 16384;

int64_t tokens_per_chunk(const RunExtent& extent) {
  return std::max<int64_t>(
      1, kElementsPerChunk / std::max<int64_t>(1, extent.num_heads * extent.width));
}

template <typename F>
void for_token_chunks(ExecContext& ctx, const RunExtent& extent, const F& body) {
  const int64_t step = tokens_per_chunk(extent);
  ctx.pool().parallel_for((extent.num_tokens + step - 1) / step, [&](int64_t chunk) {
    body(chunk * step, std::min(extent.num_tokens, (chunk + 1) * step));
  });
}

void check_runs(const char* op, const char* name, const RunExtent& extent, const Tensor& tensor,
                const HeadRuns& runs) {
  if (extent.num_tokens == 0 || extent.num_heads == 0) return;
  const int64_t end = runs.offset + (extent.num_tokens - 1) * runs.token_stride +
                      (extent.num_heads - 1) * runs.head_stride + extent.width;
  check(
      runs.offset >= 0 && runs.token_stride >= 0 && runs.head_stride >= 0 && end <= tensor.numel(),
      op, ": ", name, " ", tensor.shape(), " has ", tensor.numel(), " elements, the runs end at ",
      end);
}

void round_to(float value, float& out) { out = value; }
void round_to(float value, bf16& out) { out = to_bf16(value); }

template <typename T>
void sum_chunk(const RunExtent& extent, const T* src, const HeadRuns& from, T* dst, int64_t begin,
               int64_t end) {
  std::vector<float> sum(static_cast<size_t>(extent.width));
  for (int64_t t = begin; t < end; ++t) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (int64_t h = 0; h < extent.num_heads; ++h) {
      const T* run = src + from.offset + t * from.token_stride + h * from.head_stride;
      for (int64_t i = 0; i < extent.width; ++i) sum[static_cast<size_t>(i)] += to_float(run[i]);
    }
    for (int64_t i = 0; i < extent.width; ++i)
      round_to(sum[static_cast<size_t>(i)], dst[t * extent.width + i]);
  }
}

void copy_cpu(ExecContext& ctx, const RunExtent& extent, const Tensor& src, const HeadRuns& from,
              Tensor& dst, const HeadRuns& to) {
  const int64_t size = dtype_size(src.dtype());
  const auto* source = static_cast<const char*>(src.raw());
  auto* target = static_cast<char*>(dst.raw());
  for_token_chunks(ctx, extent, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const char* s = source + (from.offset + t * from.token_stride) * size;
      char* d = target + (to.offset + t * to.token_stride) * size;
      for (int64_t h = 0; h < extent.num_heads; ++h)
        std::memcpy(d + h * to.head_stride * size, s + h * from.head_stride * size,
                    static_cast<size_t>(extent.width * size));
    }
  });
}

}  // namespace

void copy_runs(ExecContext& ctx, const RunExtent& extent, const Tensor& src, const HeadRuns& from,
               Tensor& dst, const HeadRuns& to) {
  check(src.dtype() == dst.dtype(), "copy_runs: src is ", dtype_name(src.dtype()), ", dst ",
        dtype_name(dst.dtype()));
  check_runs("copy_runs", "src", extent, src, from);
  check_runs("copy_runs", "dst", extent, dst, to);
  switch (ctx.device()) {
    case Device::kCpu:
      return copy_cpu(ctx, extent, src, from, dst, to);
    case Device::kCuda:
      return cuda_ops<RunsCuda>().copy(src.dtype(), extent, src.raw(Device::kCuda), from,
                                       dst.raw(Device::kCuda), to);
  }
}

void sum_head_runs(ExecContext& ctx, const RunExtent& extent, const Tensor& src,
                   const HeadRuns& from, Tensor& dst) {
  check(src.dtype() == dst.dtype(), "sum_head_runs: src is ", dtype_name(src.dtype()), ", dst ",
        dtype_name(dst.dtype()));
  check(dst.numel() == extent.num_tokens * extent.width, "sum_head_runs: dst is ", dst.shape(),
        ", expected [", extent.num_tokens, ", ", extent.width, "]");
  check_runs("sum_head_runs", "src", extent, src, from);
  switch (ctx.device()) {
    case Device::kCpu:
      return for_token_chunks(ctx, extent, [&](int64_t begin, int64_t end) {
        if (src.dtype() == DType::kBF16) {
          sum_chunk(extent, src.data<bf16>(), from, dst.data<bf16>(), begin, end);
        } else {
          sum_chunk(extent, src.data<float>(), from, dst.data<float>(), begin, end);
        }
      });
    case Device::kCuda:
      return cuda_ops<RunsCuda>().sum(src.dtype(), extent, src.raw(Device::kCuda), from,
                                      dst.raw(Device::kCuda));
  }
}

}  // namespace moerl::kernels
