#include "policy/layers/linear.h"

#include <algorithm>

#include "kernels/norm/bias.h"

namespace moerl {

Linear::Linear(const std::vector<Part>& parts, int64_t in_features, bool with_bias, Device device) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.out_features;
  value_ = Tensor::without_memory({rows, in_features}, DType::kF32, device);
  if (with_bias) bias_ = Tensor::zeros({rows}, DType::kF32, device);
  int64_t begin = 0;
  for (const Part& part : parts) {
    const int64_t end = begin + part.out_features;
    parameters_.push_back({part.name + ".weight", value_.rows(begin, end), {}, false});
    if (with_bias) parameters_.push_back({part.name + ".bias", bias_.rows(begin, end), {}, false});
    begin = end;
  }
}

void Linear::collect(std::vector<Parameter*>& parameters) {
  for (Parameter& parameter : parameters_) parameters.push_back(&parameter);
}

void Linear::enable_gradients(int64_t num_sources) {
  grads_.clear();
  for (int64_t source = 0; source < num_sources; ++source)
    grads_.push_back(Tensor::zeros(value_.shape(), DType::kF32, value_.device()));
  if (bias_.defined()) bias_grad_ = Tensor::zeros(bias_.shape(), DType::kF32, bias_.device());
  int64_t begin = 0;
  for (Parameter& parameter : parameters_) {
    const bool is_bias = !parameter.is_matrix();
    const int64_t end = begin + parameter.value.dim(0);
    parameter.grad = (is_bias ? bias_grad_ : grads_[0]).rows(begin, end);
    parameter.peer_grads.clear();
    for (size_t source = 1; source < grads_.size(); ++source)
      parameter.peer_grads.push_back(grads_[source].rows(begin, end));
    if (is_bias || !bias_.defined()) begin = end;  // a bias closes its part
  }
}

void Linear::pack(ExecContext& ctx, const PackOptions& options) {
  pack_rows(ctx, options, 0, out_features(), options.with_dgrad, image_);
  finish(options);
}

void Linear::pack_rows(ExecContext& ctx, const PackOptions& options, int64_t begin, int64_t end,
                       bool with_dgrad, kernels::PackedWeight& image) const {
  if (options.source == nullptr)
    return kernels::pack_weight(ctx, value_.rows(begin, end), options.precision, with_dgrad, image);
  const Shape shape = {end - begin, in_features()};
  const auto read = [&](int64_t first, int64_t last, DType dtype, void* out) {
    read_rows(*options.source, begin + first, begin + last, dtype, out);
  };
  if (!with_dgrad) return kernels::pack_weight(ctx, shape, read, options.precision, image);
  Tensor rows = ctx.empty(shape, DType::kF32);
  kernels::fill_rows(ctx, read, rows);
  kernels::pack_weight(ctx, rows, options.precision, true, image);
}

void Linear::finish(const PackOptions& options) const {
  if (options.source == nullptr) return;
  for (const Parameter& parameter : parameters_)
    if (parameter.is_matrix()) options.source->finished(parameter);
}

void Linear::read_rows(WeightSource& source, int64_t begin, int64_t end, DType dtype,
                       void* out) const {
  const int64_t row_bytes = in_features() * dtype_size(dtype);
  int64_t part_begin = 0;
  for (const Parameter& part : parameters_) {
    if (!part.is_matrix()) continue;
    const int64_t part_end = part_begin + part.value.dim(0);
    const int64_t first = std::max(begin, part_begin), last = std::min(end, part_end);
    if (first < last)
      source.read(part, (first - part_begin) * in_features(), (last - part_begin) * in_features(),
                  dtype, static_cast<std::byte*>(out) + (first - begin) * row_bytes);
    part_begin = part_end;
  }
}

Tensor Linear::forward(ExecContext& ctx, const Tensor& x) const {
  Tensor y = ctx.empty({x.dim(0), out_features()}, x.dtype());
  if (!bias_.defined()) {
    kernels::linear_forward(ctx, x, image_, y);
    return y;
  }
  Tensor product = y.dtype() == DType::kF32 ? y : ctx.empty(y.shape(), DType::kF32);
  kernels::linear_forward(ctx, x, image_, product);
  kernels::bias_forward(ctx, product, bias_, y);
  return y;
}

void Linear::backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, Tensor& dx,
                      Write write) {
  kernels::linear_wgrad(ctx, dy, x, grads_[0]);
  if (bias_.defined()) kernels::bias_backward(ctx, dy, bias_grad_);
  kernels::linear_dgrad(ctx, dy, image_, dx, write);
}

Tensor Linear::backward(ExecContext& ctx, const Tensor& dy, const Tensor& x) {
  Tensor dx = ctx.empty({x.dim(0), in_features()}, x.dtype());
  backward(ctx, dy, x, dx);
  return dx;
}

}  // namespace moerl
