#include "kernels/norm/elementwise.h"

#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/norm/elementwise_impl.h"

namespace moerl::kernels {
namespace {

void check_columns(const char* op, const char* wide_name, const Tensor& wide, int64_t begin,
                   const char* narrow_name, const Tensor& narrow) {
  check_rank(op, wide_name, wide, 2);
  check_rank(op, narrow_name, narrow, 2);
  check_dtype(op, narrow_name, narrow, wide.dtype());
  check(narrow.dim(0) == wide.dim(0), op, ": ", narrow_name, " is ", narrow.shape(), ", expected ",
        wide.dim(0), " rows");
  check(begin >= 0 && begin + narrow.dim(1) <= wide.dim(1), op, ": begin is ", begin, ", columns [",
        begin, ", ", begin + narrow.dim(1), ") are outside of ", wide_name, " ", wide.shape());
}

void copy_strided(ExecContext& ctx, int64_t rows, const void* src, int64_t src_stride, void* dst,
                  int64_t dst_stride, int64_t bytes) {
  if (bytes == 0) return;
  parallel_rows(ctx, rows, rows_per_turn(bytes / 2), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      std::memcpy(static_cast<char*>(dst) + t * dst_stride,
                  static_cast<const char*>(src) + t * src_stride, static_cast<size_t>(bytes));
  });
}

}  // namespace

void add_inplace(ExecContext& ctx, const Tensor& src, Tensor& dst) {
  check(src.defined(), "add_inplace: src is undefined");
  check_f32_or_bf16("add_inplace", "src", src);
  check_shape("add_inplace", "dst", dst, src.shape());
  check_dtype("add_inplace", "dst", dst, src.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, src.numel(), rows_per_turn(1), [&](int64_t begin, int64_t end) {
          ElementwiseCpu<isa>::add(src.dtype(), src.raw(), dst.raw(), begin, end);
        });
      });
    case Device::kCuda:
      throw_no_cuda();
  }
}

void cast(ExecContext& ctx, const Tensor& src, Tensor& dst) {
  check(src.defined(), "cast: src is undefined");
  check(dst.defined(), "cast: dst is undefined");
  check_f32_or_bf16("cast", "src", src);
  check_f32_or_bf16("cast", "dst", dst);
  check(src.numel() == dst.numel(), "cast: dst is ", dst.shape(), ", expected as many elements as ",
        src.shape());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, src.numel(), rows_per_turn(1), [&](int64_t begin, int64_t end) {
          ElementwiseCpu<isa>::cast(src.dtype(), src.raw(), dst.dtype(), dst.raw(), begin, end);
        });
      });
    case Device::kCuda:
      throw_no_cuda();
  }
}

void copy_columns(ExecContext& ctx, const Tensor& src, int64_t begin, Tensor& dst) {
  check_columns("copy_columns", "src", src, begin, "dst", dst);
  const int64_t size = dtype_size(src.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return copy_strided(ctx, src.dim(0), static_cast<const char*>(src.raw()) + begin * size,
                          src.dim(1) * size, dst.raw(), dst.dim(1) * size, dst.dim(1) * size);
    case Device::kCuda:
      throw_no_cuda();
  }
}

void paste_columns(ExecContext& ctx, const Tensor& narrow, int64_t begin, Tensor& wide) {
  check_columns("paste_columns", "wide", wide, begin, "narrow", narrow);
  const int64_t size = dtype_size(wide.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return copy_strided(ctx, wide.dim(0), narrow.raw(), narrow.dim(1) * size,
                          static_cast<char*>(wide.raw()) + begin * size, wide.dim(1) * size,
                          narrow.dim(1) * size);
    case Device::kCuda:
      throw_no_cuda();
  }
}

}  // namespace moerl::kernels
