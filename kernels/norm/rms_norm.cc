#include "kernels/norm/rms_norm.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/norm/rms_norm_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kReduceColumns = 256;

void check_forward(const char* op, const Tensor& x, const Tensor& weight, float eps,
                   const Tensor& y, const Tensor* rstd) {
  check_rank(op, "x", x, 2);
  check_f32_or_bf16(op, "x", x);
  check(x.dim(1) >= 1, op, ": x is ", x.shape(), ", expected D >= 1");
  check_shape(op, "weight", weight, Shape{x.dim(1)});
  check_dtype(op, "weight", weight, DType::kF32);
  check(eps > 0, op, ": eps is ", eps, ", expected > 0");
  check_shape(op, "y", y, x.shape());
  check_dtype(op, "y", y, x.dtype());
  if (rstd == nullptr) return;
  check_shape(op, "rstd", *rstd, Shape{x.dim(0)});
  check_dtype(op, "rstd", *rstd, DType::kF32);
}

void forward_cpu(ExecContext& ctx, int64_t rows, const RmsNormForwardArgs& args) {
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    parallel_rows(ctx, rows, rows_per_turn(args.dim),
                  [&](int64_t begin, int64_t end) { RmsNormCpu<isa>::forward(args, begin, end); });
  });
}

void backward_cpu(ExecContext& ctx, int64_t rows, const RmsNormBackwardArgs& args, float* dweight) {
  const int64_t blocks = (rows + kRmsNormBackwardRows - 1) / kRmsNormBackwardRows;
  if (blocks == 0) return;
  Tensor partials = ctx.empty(Shape{blocks, args.dim}, DType::kF32);
  float* partial = partials.data<float>();
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    parallel_rows(ctx, rows, kRmsNormBackwardRows, [&](int64_t begin, int64_t end) {
      RmsNormCpu<isa>::backward(args, begin, end,
                                partial + begin / kRmsNormBackwardRows * args.dim);
    });
    parallel_rows(ctx, args.dim, kReduceColumns, [&](int64_t begin, int64_t end) {
      RmsNormCpu<isa>::reduce(partial, blocks, args.dim, dweight, begin, end);
    });
  });
}

}  // namespace

void rms_norm_forward(ExecContext& ctx, const Tensor& x, const Tensor& weight, float eps, Tensor& y,
                      Tensor* rstd) {
  check_forward("rms_norm", x, weight, eps, y, rstd);
  switch (ctx.device()) {
    case Device::kCpu:
      return forward_cpu(
          ctx, x.dim(0),
          {x.dtype(), x.dim(1), eps, weight.data<float>(), const_cast<void*>(x.raw()), nullptr,
           y.raw(), rstd == nullptr ? nullptr : rstd->data<float>()});
    case Device::kCuda:
      throw_no_cuda();
  }
}

void add_rms_norm_forward(ExecContext& ctx, Tensor& residual, const Tensor& delta,
                          const Tensor& weight, float eps, Tensor& y, Tensor* rstd) {
  check_forward("add_rms_norm", residual, weight, eps, y, rstd);
  check_shape("add_rms_norm", "delta", delta, residual.shape());
  check_dtype("add_rms_norm", "delta", delta, residual.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return forward_cpu(
          ctx, residual.dim(0),
          {residual.dtype(), residual.dim(1), eps, weight.data<float>(), residual.raw(),
           delta.raw(), y.raw(), rstd == nullptr ? nullptr : rstd->data<float>()});
    case Device::kCuda:
      throw_no_cuda();
  }
}

void rms_norm_backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, Tensor& dx, Tensor& dweight, Write write) {
  const char* op = "rms_norm_backward";
  check_rank(op, "x", x, 2);
  check_f32_or_bf16(op, "x", x);
  check(x.dim(1) >= 1, op, ": x is ", x.shape(), ", expected D >= 1");
  check_shape(op, "dy", dy, x.shape());
  check_dtype(op, "dy", dy, x.dtype());
  check_shape(op, "weight", weight, Shape{x.dim(1)});
  check_dtype(op, "weight", weight, DType::kF32);
  check_shape(op, "rstd", rstd, Shape{x.dim(0)});
  check_dtype(op, "rstd", rstd, DType::kF32);
  check_shape(op, "dx", dx, x.shape());
  check_dtype(op, "dx", dx, x.dtype());
  check_shape(op, "dweight", dweight, weight.shape());
  check_dtype(op, "dweight", dweight, DType::kF32);
  switch (ctx.device()) {
    case Device::kCpu:
      return backward_cpu(ctx, x.dim(0),
                          {x.dtype(), x.dim(1), write == Write::kAccumulate, weight.data<float>(),
                           rstd.data<float>(), dy.raw(), x.raw(), dx.raw()},
                          dweight.data<float>());
    case Device::kCuda:
      throw_no_cuda();
  }
}

}  // namespace moerl::kernels
