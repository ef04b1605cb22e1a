#include "policy/layers/linear.h"

namespace moerl {

Linear::Linear(const std::vector<Part>& parts, int64_t in_features) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.out_features;
  value_ = Tensor::zeros({rows, in_features}, DType::kF32);
  int64_t begin = 0;
  for (const Part& part : parts) {
    parameters_.push_back({part.name, value_.rows(begin, begin + part.out_features), {}, false});
    begin += part.out_features;
  }
}

void Linear::collect(std::vector<Parameter*>& parameters) {
  for (Parameter& parameter : parameters_) parameters.push_back(&parameter);
}

void Linear::enable_gradients() {
  grad_ = Tensor::zeros(value_.shape(), DType::kF32);
  int64_t begin = 0;
  for (Parameter& parameter : parameters_) {
    const int64_t rows = parameter.value.dim(0);
    parameter.grad = grad_.rows(begin, begin + rows);
    begin += rows;
  }
}

void Linear::pack(ExecContext& ctx, DType dtype, bool with_dgrad) {
  kernels::pack_weight(ctx, value_, dtype, with_dgrad, image_);
}

Tensor Linear::forward(ExecContext& ctx, const Tensor& x) const {
  Tensor y = ctx.empty({x.dim(0), out_features()}, x.dtype());
  kernels::linear_forward(ctx, x, image_, y);
  return y;
}

void Linear::backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, Tensor& dx,
                      Write write) {
  kernels::linear_wgrad(ctx, dy, x, grad_);
  kernels::linear_dgrad(ctx, dy, image_, dx, write);
}

Tensor Linear::backward(ExecContext& ctx, const Tensor& dy, const Tensor& x) {
  Tensor dx = ctx.empty({x.dim(0), in_features()}, x.dtype());
  backward(ctx, dy, x, dx);
  return dx;
}

}  // namespace moerl
