#include "policy/layers/rms_norm.h"

namespace moerl {

RmsNorm::RmsNorm(const std::string& name, int64_t width, double eps, Device device)
    : weight_{name, Tensor::zeros({width}, DType::kF32, device), {}, false},
      eps_(static_cast<float>(eps)) {}

void RmsNorm::enable_gradients() {
  weight_.grad = Tensor::zeros(weight_.value.shape(), DType::kF32, weight_.value.device());
}

Tensor RmsNorm::forward(ExecContext& ctx, const Tensor& x, Tensor* rstd) const {
  Tensor y = ctx.empty(x.shape(), x.dtype());
  if (rstd) *rstd = ctx.empty({x.dim(0)}, DType::kF32);
  kernels::rms_norm_forward(ctx, x, weight_.value, eps_, y, rstd);
  return y;
}

Tensor RmsNorm::forward(ExecContext& ctx, Residual& stream, Tensor* rstd) const {
  if (!stream.delta.defined()) return forward(ctx, stream.x, rstd);
  Tensor y = ctx.empty(stream.x.shape(), stream.x.dtype());
  if (rstd) *rstd = ctx.empty({stream.x.dim(0)}, DType::kF32);
  // A sum does not care which side is first: delta's memory takes it, and the old stream survives
  // for backward.
  kernels::add_rms_norm_forward(ctx, stream.delta, stream.x, weight_.value, eps_, y, rstd);
  stream.x = std::move(stream.delta);
  stream.delta = Tensor();
  return y;
}

void RmsNorm::backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& rstd,
                       Tensor& dx, Write write) {
  kernels::rms_norm_backward(ctx, dy, x, weight_.value, rstd, dx, weight_.grad, write);
}

}  // namespace moerl
