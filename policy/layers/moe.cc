#include "policy/layers/moe.h"

#include <numeric>

#include "kernels/activation/swiglu.h"
#include "kernels/norm/rms_norm.h"

namespace moerl {
namespace {

/// The tensor itself if it is fp32 already.
Tensor as_fp32(ExecContext& ctx, const Tensor& x) {
  if (x.dtype() == DType::kF32) return x;
  Tensor wide = ctx.empty(x.shape(), DType::kF32);
  kernels::cast(ctx, x, wide);
  return wide;
}

}  // namespace

Moe::Moe(const std::string& prefix, const ModelConfig& config, Device device)
    : gate_config_(config.gate()),
      gate_(prefix + "gate", config.n_routed_experts, config.hidden_size, device) {
  if (config.has_router_bias())
    score_bias_ = Parameter{prefix + "gate.e_score_correction_bias",
                            Tensor::zeros({config.n_routed_experts}, DType::kF32, device),
                            {},
                            true};
  for (int64_t e = 0; e < config.n_routed_experts; ++e)
    experts_.emplace_back(prefix + "experts." + std::to_string(e) + ".", config.hidden_size,
                          config.moe_intermediate_size, device);
  if (config.n_shared_experts > 0)
    shared_.emplace(prefix + "shared_experts.", config.hidden_size,
                    config.n_shared_experts * config.moe_intermediate_size, device);
  for (SwiGluMlp& expert : experts_) {
    gate_up_images_.push_back(&expert.gate_up().image());
    down_images_.push_back(&expert.down().image());
    gate_up_grads_.push_back(&expert.gate_up().grad());
    down_grads_.push_back(&expert.down().grad());
  }
}

void Moe::collect(std::vector<Parameter*>& parameters) {
  gate_.collect(parameters);
  if (score_bias_) parameters.push_back(&*score_bias_);
  for (SwiGluMlp& expert : experts_) expert.collect(parameters);
  if (shared_) shared_->collect(parameters);
}

void Moe::enable_gradients() {
  gate_.enable_gradients();
  for (SwiGluMlp& expert : experts_) expert.enable_gradients();
  if (shared_) shared_->enable_gradients();
}

void Moe::pack(ExecContext& ctx, const PackOptions& options) {
  PackOptions of_gate = options;
  of_gate.dtype = DType::kF32;
  gate_.pack(ctx, of_gate);
  for (SwiGluMlp& expert : experts_) expert.pack(ctx, options);
  if (shared_) shared_->pack(ctx, options);
}

Moe::Routing Moe::route(ExecContext& ctx, const Tensor& x) const {
  const int64_t t = x.dim(0), e = gate_config_.n_routed_experts,
                k = gate_config_.num_experts_per_tok;
  const Tensor logits = gate_.forward(ctx, as_fp32(ctx, x));
  Routing r{ctx.empty({t, e}, DType::kF32),
            ctx.empty({t, k}, DType::kI32),
            ctx.empty({t, k}, DType::kF32),
            {}};
  kernels::topk_gate_forward(ctx, logits, score_bias_ ? &score_bias_->value : nullptr, gate_config_,
                             r.scores, r.topk_idx, r.topk_weights);
  r.rows = kernels::sort_by_expert(ctx, r.topk_idx, e);
  return r;
}

void Moe::record(ExecContext& ctx, const Routing& routing,
                 std::span<const kernels::AttentionSegment> sequences, RoutingStats& stats) const {
  std::vector<int64_t> counts(experts_.size());
  const Tensor on_host = routing.rows.offsets.to(Device::kCpu);
  const int64_t* offsets = on_host.data<int64_t>();
  for (size_t e = 0; e < counts.size(); ++e) counts[e] = offsets[e + 1] - offsets[e];
  stats.counts.push_back(std::move(counts));
  if (stats.chosen_experts) stats.chosen_experts->push_back(routing.topk_idx);
  if (stats.balance_alpha == 0) return;
  for (const kernels::AttentionSegment& s : sequences)
    stats.balance_loss +=
        kernels::sequence_balance_loss(ctx, routing.scores, routing.topk_idx, s.first_row,
                                       s.first_row + s.num_rows, stats.balance_alpha, nullptr);
}

Tensor Moe::forward(ExecContext& ctx, const Tensor& x,
                    std::span<const kernels::AttentionSegment> sequences, Saved* saved,
                    RoutingStats* stats) const {
  Routing r = route(ctx, x);
  if (stats) record(ctx, r, sequences, *stats);

  const int64_t k = gate_config_.num_experts_per_tok, num_rows = x.dim(0) * k;
  const int64_t d = x.dim(1), width = experts_[0].down().in_features();
  Tensor expert_in = ctx.empty({num_rows, d}, x.dtype());
  kernels::expand_forward(ctx, x, r.rows, k, expert_in);
  Tensor gate_up = ctx.empty({num_rows, 2 * width}, x.dtype());
  kernels::grouped_linear_forward(ctx, expert_in, r.rows.offsets, gate_up_images_, gate_up);
  Tensor hidden = ctx.empty({num_rows, width}, x.dtype());
  kernels::swiglu_forward(ctx, gate_up, hidden);
  Tensor expert_out = std::move(expert_in);  // read already; of the right size
  kernels::grouped_linear_forward(ctx, hidden, r.rows.offsets, down_images_, expert_out);

  Tensor shared_out;
  if (shared_) shared_out = shared_->forward(ctx, x, saved ? &saved->shared : nullptr);
  Tensor y = ctx.empty(x.shape(), x.dtype());
  kernels::reduce_forward(ctx, expert_out, r.topk_weights, r.rows, shared_ ? &shared_out : nullptr,
                          y);
  if (saved) {
    saved->x = x;
    saved->scores = std::move(r.scores);
    saved->topk_idx = std::move(r.topk_idx);
    saved->topk_weights = std::move(r.topk_weights);
    saved->rows = std::move(r.rows);
    saved->gate_up = std::move(gate_up);
    saved->expert_out = std::move(expert_out);
  }
  return y;
}

Tensor Moe::backward(ExecContext& ctx, const Tensor& dy,
                     std::span<const kernels::AttentionSegment> sequences, double balance_alpha,
                     const Saved& saved) {
  const int64_t k = gate_config_.num_experts_per_tok, num_rows = saved.expert_out.dim(0);
  const int64_t width = experts_[0].down().in_features();
  const DType dtype = dy.dtype();
  Tensor dexpert_out = ctx.empty(saved.expert_out.shape(), dtype);
  Tensor dtopk_weights = ctx.empty(saved.topk_weights.shape(), DType::kF32);
  kernels::reduce_backward(ctx, dy, saved.expert_out, saved.topk_weights, saved.rows, dexpert_out,
                           dtopk_weights);
  Tensor dx = shared_ ? shared_->backward(ctx, dy, saved.shared) : ctx.zeros(dy.shape(), dtype);

  Tensor hidden = ctx.empty({num_rows, width}, dtype);
  kernels::swiglu_forward(ctx, saved.gate_up, hidden);
  kernels::grouped_linear_wgrad(ctx, dexpert_out, hidden, saved.rows.offsets, down_grads_);
  Tensor dhidden = std::move(hidden);
  kernels::grouped_linear_dgrad(ctx, dexpert_out, saved.rows.offsets, down_images_, dhidden);
  Tensor dgate_up = ctx.empty(saved.gate_up.shape(), dtype);
  kernels::swiglu_backward(ctx, dhidden, saved.gate_up, dgate_up);
  Tensor expert_in = std::move(dexpert_out);
  kernels::expand_forward(ctx, saved.x, saved.rows, k, expert_in);
  kernels::grouped_linear_wgrad(ctx, dgate_up, expert_in, saved.rows.offsets, gate_up_grads_);
  Tensor dexpert_in = std::move(expert_in);
  kernels::grouped_linear_dgrad(ctx, dgate_up, saved.rows.offsets, gate_up_images_, dexpert_in);
  kernels::expand_backward(ctx, dexpert_in, saved.rows, k, dx, Write::kAccumulate);

  route_backward(ctx, dtopk_weights, sequences, balance_alpha, saved, dx);
  return dx;
}

void Moe::route_backward(ExecContext& ctx, const Tensor& dtopk_weights,
                         std::span<const kernels::AttentionSegment> sequences, double balance_alpha,
                         const Saved& saved, Tensor& dx) {
  Tensor dscores;  // of the balance loss
  if (balance_alpha != 0) {
    dscores = ctx.zeros(saved.scores.shape(), DType::kF32);
    for (const kernels::AttentionSegment& s : sequences)
      kernels::sequence_balance_loss(ctx, saved.scores, saved.topk_idx, s.first_row,
                                     s.first_row + s.num_rows, balance_alpha, &dscores);
  }
  Tensor dlogits = ctx.empty(saved.scores.shape(), DType::kF32);
  kernels::topk_gate_backward(ctx, saved.scores, saved.topk_idx, gate_config_, dtopk_weights,
                              dscores.defined() ? &dscores : nullptr, dlogits);
  if (dx.dtype() == DType::kF32) {
    gate_.backward(ctx, dlogits, saved.x, dx, Write::kAccumulate);
    return;
  }
  const Tensor dx_router = gate_.backward(ctx, dlogits, as_fp32(ctx, saved.x));
  Tensor rounded = ctx.empty(dx.shape(), dx.dtype());
  kernels::cast(ctx, dx_router, rounded);
  kernels::add_inplace(ctx, rounded, dx);
}

void Moe::update_bias(std::span<const int64_t> counts, double rate) {
  const auto e = static_cast<int64_t>(experts_.size());
  check(static_cast<int64_t>(counts.size()) == e, "update_router_bias: ", counts.size(),
        " counts in a layer of ", e, " experts");
  if (!score_bias_) return;
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  Tensor on_host = score_bias_->value.to(Device::kCpu);
  float* bias = on_host.data<float>();
  for (int64_t i = 0; i < e; ++i) {
    // mean - count, times e: whole numbers have an exact sign.
    const int64_t lack = total - counts[static_cast<size_t>(i)] * e;
    bias[i] += static_cast<float>(rate * static_cast<double>((lack > 0) - (lack < 0)));
  }
  if (score_bias_->value.device() != Device::kCpu) score_bias_->value.copy_from(on_host);
}

}  // namespace moerl
