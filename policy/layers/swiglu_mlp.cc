#include "policy/layers/swiglu_mlp.h"

#include "kernels/activation/swiglu.h"

namespace moerl {

SwiGluMlp::SwiGluMlp(const std::string& prefix, int64_t hidden_size, int64_t intermediate_size,
                     Device device)
    : gate_up_({{prefix + "gate_proj", intermediate_size}, {prefix + "up_proj", intermediate_size}},
               hidden_size, false, device),
      down_(prefix + "down_proj", hidden_size, intermediate_size, device) {}

void SwiGluMlp::collect(std::vector<Parameter*>& parameters) {
  gate_up_.collect(parameters);
  down_.collect(parameters);
}

void SwiGluMlp::enable_gradients(int64_t num_sources) {
  gate_up_.enable_gradients(num_sources);
  down_.enable_gradients(num_sources);
}

void SwiGluMlp::pack(ExecContext& ctx, const PackOptions& options) {
  gate_up_.pack(ctx, options);
  down_.pack(ctx, options);
}

Tensor SwiGluMlp::forward(ExecContext& ctx, const Tensor& x, Saved* saved) const {
  Tensor gate_up = gate_up_.forward(ctx, x);
  Tensor hidden = ctx.empty({x.dim(0), down_.in_features()}, x.dtype());
  kernels::swiglu_forward(ctx, gate_up, hidden);
  Tensor y = down_.forward(ctx, hidden);
  if (saved) *saved = {x, std::move(gate_up)};
  return y;
}

Tensor SwiGluMlp::backward(ExecContext& ctx, const Tensor& dy, const Saved& saved) {
  Tensor hidden = ctx.empty({dy.dim(0), down_.in_features()}, dy.dtype());
  kernels::swiglu_forward(ctx, saved.gate_up, hidden);

  const Tensor dhidden = down_.backward(ctx, dy, hidden);
  Tensor dgate_up = ctx.empty(saved.gate_up.shape(), dy.dtype());
  kernels::swiglu_backward(ctx, dhidden, saved.gate_up, dgate_up);
  return gate_up_.backward(ctx, dgate_up, saved.x);
}

}  // namespace moerl
