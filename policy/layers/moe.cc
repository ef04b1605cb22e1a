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

Moe::Moe(const std::string& prefix, const ModelConfig& config, Device device,
         const ExpertParallel& parallel)
    : gate_config_(config.gate()),
      gate_(prefix + "gate", config.n_routed_experts, config.hidden_size, device),
      parallel_(parallel) {
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
  const int64_t num_own = parallel.num_own(config.n_routed_experts);
  own_ = std::span(experts_).subspan(static_cast<size_t>(parallel.group().rank() * num_own),
                                     static_cast<size_t>(num_own));
  std::vector<const kernels::PackedWeight*> gate_up, down;
  for (int64_t source = 0; source < parallel.size(); ++source)
    for (SwiGluMlp& expert : own_) {
      gate_up.push_back(&expert.gate_up().image());
      down.push_back(&expert.down().image());
    }
  gate_up_images_ = std::move(gate_up);
  down_images_ = std::move(down);
}

void Moe::collect(std::vector<Parameter*>& parameters) {
  gate_.collect(parameters);
  if (score_bias_) parameters.push_back(&*score_bias_);
  for (size_t e = 0; e < experts_.size(); ++e) {
    const size_t first = parameters.size();
    experts_[e].collect(parameters);
    if (parallel_.size() == 1) continue;
    for (size_t p = first; p < parameters.size(); ++p)
      parameters[p]->holder = static_cast<int>(e / own_.size());
  }
  if (shared_) shared_->collect(parameters);
}

void Moe::enable_gradients() {
  gate_.enable_gradients();
  for (SwiGluMlp& expert : own_) expert.enable_gradients(parallel_.size());
  gate_up_grads_.clear();
  down_grads_.clear();
  for (int64_t source = 0; source < parallel_.size(); ++source)
    for (SwiGluMlp& expert : own_) {
      gate_up_grads_.push_back(&expert.gate_up().grad(source));
      down_grads_.push_back(&expert.down().grad(source));
    }
  if (shared_) shared_->enable_gradients();
}

void Moe::pack(ExecContext& ctx, const PackOptions& options) {
  PackOptions of_gate = options;
  of_gate.precision = DType::kF32;
  gate_.pack(ctx, of_gate);
  for (SwiGluMlp& expert : own_) expert.pack(ctx, options);
  gate_up_images_.upload(ctx), down_images_.upload(ctx);
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

void Moe::record(ExecContext& ctx, const Routing& routing, const kernels::SegmentList& sequences,
                 RoutingStats& stats) const {
  std::vector<int64_t> counts(experts_.size());
  const Tensor on_host = routing.rows.offsets.to(Device::kCpu);
  const int64_t* offsets = on_host.data<int64_t>();
  for (size_t e = 0; e < counts.size(); ++e) counts[e] = offsets[e + 1] - offsets[e];
  stats.counts.push_back(std::move(counts));
  if (stats.chosen_experts) stats.chosen_experts->push_back(routing.topk_idx);
  if (stats.balance_alpha == 0) return;
  for (const kernels::AttentionSegment& s : sequences.host())
    stats.balance_loss +=
        kernels::sequence_balance_loss(ctx, routing.scores, routing.topk_idx, s.first_row,
                                       s.first_row + s.num_rows, stats.balance_alpha, nullptr);
}

Tensor Moe::expand(ExecContext& ctx, const Tensor& x, const kernels::ExpertRows& rows) const {
  const int64_t k = gate_config_.num_experts_per_tok;
  Tensor expanded = ctx.empty({x.dim(0) * k, x.dim(1)}, x.dtype());
  kernels::expand_forward(ctx, x, rows, k, expanded);
  return expanded;
}

Tensor Moe::forward(ExecContext& ctx, const Tensor& x, const kernels::SegmentList& sequences,
                    Saved* saved, RoutingStats* stats) const {
  Routing r = route(ctx, x);
  if (stats) record(ctx, r, sequences, *stats);

  ExpertRoutes routes = parallel_.route(ctx, r.rows.offsets);
  Tensor rows = parallel_.dispatch(routes, expand(ctx, x, r.rows));
  const int64_t width = experts_[0].down().in_features();
  Tensor gate_up = ctx.empty({rows.dim(0), 2 * width}, x.dtype());
  kernels::grouped_linear_forward(ctx, rows, routes.offsets, gate_up_images_, gate_up);
  Tensor hidden = ctx.empty({rows.dim(0), width}, x.dtype());
  kernels::swiglu_forward(ctx, gate_up, hidden);
  // What went in is read already, and of the right size.
  kernels::grouped_linear_forward(ctx, hidden, routes.offsets, down_images_, rows);
  Tensor expert_out = parallel_.combine(routes, rows);

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
    saved->routes = std::move(routes);
    saved->gate_up = std::move(gate_up);
    saved->expert_out = std::move(expert_out);
  }
  return y;
}

Tensor Moe::backward(ExecContext& ctx, const Tensor& dy, const kernels::SegmentList& sequences,
                     double balance_alpha, const Saved& saved) {
  const DType dtype = dy.dtype();
  Tensor dexpert_out = ctx.empty(saved.expert_out.shape(), dtype);
  Tensor dtopk_weights = ctx.empty(saved.topk_weights.shape(), DType::kF32);
  kernels::reduce_backward(ctx, dy, saved.expert_out, saved.topk_weights, saved.rows, dexpert_out,
                           dtopk_weights);
  Tensor dx = shared_ ? shared_->backward(ctx, dy, saved.shared) : ctx.zeros(dy.shape(), dtype);

  const kernels::GroupOffsets offsets = saved.routes.offsets;
  Tensor rows = parallel_.dispatch(saved.routes, dexpert_out);
  dexpert_out = {};
  Tensor hidden = ctx.empty({rows.dim(0), experts_[0].down().in_features()}, dtype);
  kernels::swiglu_forward(ctx, saved.gate_up, hidden);
  kernels::grouped_linear_wgrad(ctx, rows, hidden, offsets, down_grads_);
  Tensor dhidden = std::move(hidden);
  kernels::grouped_linear_dgrad(ctx, rows, offsets, down_images_, dhidden);
  rows = {};  // its memory serves what follows
  Tensor dgate_up = ctx.empty(saved.gate_up.shape(), dtype);
  kernels::swiglu_backward(ctx, dhidden, saved.gate_up, dgate_up);
  rows = parallel_.dispatch(saved.routes, expand(ctx, saved.x, saved.rows));
  kernels::grouped_linear_wgrad(ctx, dgate_up, rows, offsets, gate_up_grads_);
  kernels::grouped_linear_dgrad(ctx, dgate_up, offsets, gate_up_images_, rows);
  const Tensor dexpert_in = parallel_.combine(saved.routes, rows);
  kernels::expand_backward(ctx, dexpert_in, saved.rows, gate_config_.num_experts_per_tok, dx,
                           Write::kAccumulate);

  route_backward(ctx, dtopk_weights, sequences, balance_alpha, saved, dx);
  return dx;
}

void Moe::route_backward(ExecContext& ctx, const Tensor& dtopk_weights,
                         const kernels::SegmentList& sequences, double balance_alpha,
                         const Saved& saved, Tensor& dx) {
  Tensor dscores;  // of the balance loss
  if (balance_alpha != 0) {
    dscores = ctx.zeros(saved.scores.shape(), DType::kF32);
    for (const kernels::AttentionSegment& s : sequences.host())
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
