#include "policy/layers/gqa.h"

#include "kernels/attention/rope.h"
#include "kernels/layout/runs.h"

namespace moerl {
namespace {

/// The norm of every head by itself, [T, heads, dh] -> the same.
Tensor norm_heads(ExecContext& ctx, const RmsNorm& norm, const Tensor& x, Tensor* rstd) {
  return norm.forward(ctx, x.view({x.dim(0) * x.dim(1), x.dim(2)}), rstd).view(x.shape());
}

Tensor norm_heads_backward(ExecContext& ctx, RmsNorm& norm, const Tensor& dy, const Tensor& x,
                           const Tensor& rstd) {
  const Shape flat = {x.dim(0) * x.dim(1), x.dim(2)};
  Tensor dx = ctx.empty(flat, x.dtype());
  norm.backward(ctx, dy.view(flat), x.view(flat), rstd, dx, Write::kOverwrite);
  return dx.view(x.shape());
}

}  // namespace

Gqa::Gqa(const std::string& prefix, const ModelConfig& config, Device device)
    : heads_(config.num_attention_heads),
      kv_heads_(config.num_key_value_heads),
      dh_(config.head_dim),
      scale_(config.softmax_scale()),
      pairing_(config.rope_pairing()),
      qkv_proj_({{prefix + "q_proj", heads_ * dh_},
                 {prefix + "k_proj", kv_heads_ * dh_},
                 {prefix + "v_proj", kv_heads_ * dh_}},
                config.hidden_size, config.qkv_bias, device),
      o_proj_({{prefix + "o_proj", config.hidden_size}}, heads_ * dh_, config.o_bias, device) {
  if (config.qk_norm) {
    q_norm_.emplace(prefix + "q_norm.weight", dh_, config.rms_norm_eps, device);
    k_norm_.emplace(prefix + "k_norm.weight", dh_, config.rms_norm_eps, device);
  }
}

void Gqa::collect(std::vector<Parameter*>& parameters) {
  qkv_proj_.collect(parameters);
  if (q_norm_) q_norm_->collect(parameters);
  if (k_norm_) k_norm_->collect(parameters);
  o_proj_.collect(parameters);
}

void Gqa::enable_gradients() {
  qkv_proj_.enable_gradients();
  if (q_norm_) q_norm_->enable_gradients();
  if (k_norm_) k_norm_->enable_gradients();
  o_proj_.enable_gradients();
}

void Gqa::pack(ExecContext& ctx, const PackOptions& options) {
  qkv_proj_.pack(ctx, options);
  o_proj_.pack(ctx, options);
}

Tensor Gqa::forward(ExecContext& ctx, const Tensor& x, const RowPlaces& places,
                    kernels::PagedKv& cache, Saved* saved) const {
  const int64_t t = x.dim(0);
  const Tensor qkv = qkv_proj_.forward(ctx, x);
  Tensor q = take_heads(ctx, qkv, 0, heads_);
  Tensor k = take_heads(ctx, qkv, heads_, kv_heads_);
  Tensor v = take_heads(ctx, qkv, heads_ + kv_heads_, kv_heads_);
  if (q_norm_) {
    Tensor q_raw = std::move(q), k_raw = std::move(k);
    q = norm_heads(ctx, *q_norm_, q_raw, saved ? &saved->q_rstd : nullptr);
    k = norm_heads(ctx, *k_norm_, k_raw, saved ? &saved->k_rstd : nullptr);
    if (saved) {
      saved->q_raw = std::move(q_raw);
      saved->k_raw = std::move(k_raw);
    }
  }
  kernels::rope_forward(ctx, places.rope_table, places.positions, pairing_, 0, q);
  kernels::rope_forward(ctx, places.rope_table, places.positions, pairing_, 0, k);

  kernels::kv_append(ctx, k, v, places.segments, cache);
  Tensor o = ctx.empty(q.shape(), x.dtype());
  Tensor lse;
  if (saved) lse = ctx.empty({t, heads_}, DType::kF32);
  kernels::attention_forward(ctx, q, cache, places.segments, scale_, o, saved ? &lse : nullptr);
  Tensor y = o_proj_.forward(ctx, o.view({t, heads_ * dh_}));
  if (saved) {
    saved->x = x;
    saved->q = std::move(q);
    saved->k = std::move(k);
    saved->v = std::move(v);
    saved->o = std::move(o);
    saved->lse = std::move(lse);
  }
  return y;
}

Tensor Gqa::backward(ExecContext& ctx, const Tensor& dy, const RowPlaces& places,
                     const Saved& saved) {
  const int64_t t = dy.dim(0);
  const Tensor dout =
      o_proj_.backward(ctx, dy, saved.o.view({t, heads_ * dh_})).view(saved.o.shape());
  Tensor dq = ctx.empty(saved.q.shape(), dy.dtype());
  Tensor dk = ctx.empty(saved.k.shape(), dy.dtype()), dv = ctx.empty(saved.v.shape(), dy.dtype());
  kernels::attention_backward(ctx, dout, saved.q, saved.k, saved.v, saved.o, saved.lse,
                              places.segments, scale_, dq, dk, dv);
  kernels::rope_backward(ctx, places.rope_table, places.positions, pairing_, 0, dq);
  kernels::rope_backward(ctx, places.rope_table, places.positions, pairing_, 0, dk);
  if (q_norm_) {
    dq = norm_heads_backward(ctx, *q_norm_, dq, saved.q_raw, saved.q_rstd);
    dk = norm_heads_backward(ctx, *k_norm_, dk, saved.k_raw, saved.k_rstd);
  }
  Tensor dqkv = ctx.empty({t, (heads_ + 2 * kv_heads_) * dh_}, dy.dtype());
  put_heads(ctx, dq, 0, dqkv);
  put_heads(ctx, dk, heads_, dqkv);
  put_heads(ctx, dv, heads_ + kv_heads_, dqkv);
  return qkv_proj_.backward(ctx, dqkv, saved.x);
}

Tensor Gqa::take_heads(ExecContext& ctx, const Tensor& qkv, int64_t first, int64_t count) const {
  Tensor heads = ctx.empty({qkv.dim(0), count, dh_}, qkv.dtype());
  kernels::copy_runs(ctx, {qkv.dim(0), 1, count * dh_}, qkv, {first * dh_, qkv.dim(1), 0}, heads,
                     {0, count * dh_, 0});
  return heads;
}

void Gqa::put_heads(ExecContext& ctx, const Tensor& heads, int64_t first, Tensor& qkv) const {
  const int64_t width = heads.dim(1) * dh_;
  kernels::copy_runs(ctx, {qkv.dim(0), 1, width}, heads, {0, width, 0}, qkv,
                     {first * dh_, qkv.dim(1), 0});
}

}  // namespace moerl
