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

/// @param delta  null, or added to x first; only then is x written.
void forward(ExecContext& ctx, const Tensor& x, const Tensor* delta, const Tensor& weight,
             float eps, Tensor& y, Tensor* rstd) {
  const Device device = ctx.device();
  const int64_t rows = x.dim(0);
  const RmsNormForwardArgs args{x.dtype(),
                                x.dim(1),
                                eps,
                                weight.data<float>(device),
                                const_cast<void*>(x.raw(device)),
                                delta == nullptr ? nullptr : delta->raw(device),
                                y.raw(device),
                                rstd == nullptr ? nullptr : rstd->data<float>(device)};
  switch (device) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, rows, rows_per_turn(args.dim), [&](int64_t begin, int64_t end) {
          RmsNormCpu<isa>::forward(args, begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<RmsNormCuda>().forward(args, rows);
  }
}

void backward_cpu(ExecContext& ctx, int64_t rows, const RmsNormBackwardArgs& args, int64_t blocks,
                  float* partial, float* dweight) {
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
  forward(ctx, x, nullptr, weight, eps, y, rstd);
}

void add_rms_norm_forward(ExecContext& ctx, Tensor& residual, const Tensor& delta,
                          const Tensor& weight, float eps, Tensor& y, Tensor* rstd) {
  check_forward("add_rms_norm", residual, weight, eps, y, rstd);
  check_shape("add_rms_norm", "delta", delta, residual.shape());
  check_dtype("add_rms_norm", "delta", delta, residual.dtype());
  forward(ctx, residual, &delta, weight, eps, y, rstd);
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
  const Device device = ctx.device();
  const int64_t rows = x.dim(0);
  const int64_t blocks = (rows + kRmsNormBackwardRows - 1) / kRmsNormBackwardRows;
  if (blocks == 0) return;
  const RmsNormBackwardArgs args{x.dtype(),
                                 x.dim(1),
                                 write == Write::kAccumulate,
                                 weight.data<float>(device),
                                 rstd.data<float>(device),
                                 dy.raw(device),
                                 x.raw(device),
                                 dx.raw(device)};
  Tensor partials = ctx.empty(Shape{blocks, args.dim}, DType::kF32);
  float* partial = partials.data<float>(device);
  switch (device) {
    case Device::kCpu:
      return backward_cpu(ctx, rows, args, blocks, partial, dweight.data<float>());
    case Device::kCuda:
      return cuda_ops<RmsNormCuda>().backward(args, rows, partial,
                                              dweight.data<float>(Device::kCuda));
  }
}

}  // namespace moerl::kernels
