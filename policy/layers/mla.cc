#include "policy/layers/mla.h"

#include "kernels/attention/rope.h"
#include "kernels/layout/runs.h"

namespace moerl {
namespace {

/// eps of the two latent norms: that of the published models' code, whatever their rms_norm_eps.
constexpr double kLatentNormEps = 1e-6;

std::vector<const kernels::PackedWeight*> pointers_to(
    const std::vector<kernels::PackedWeight>& images) {
  std::vector<const kernels::PackedWeight*> pointers;
  for (const kernels::PackedWeight& image : images) pointers.push_back(&image);
  return pointers;
}

}  // namespace

Mla::Mla(const std::string& prefix, const ModelConfig& config, Device device)
    : heads_(config.num_attention_heads),
      dn_(config.qk_nope_head_dim),
      dr_(config.qk_rope_head_dim),
      dv_(config.v_head_dim),
      dc_(config.kv_lora_rank),
      absorbed_(config.absorbed()),
      scale_(config.softmax_scale()),
      pairing_(config.rope_pairing()),
      q_b_proj_(prefix + (config.q_lora_rank ? "q_b_proj" : "q_proj"), heads_ * (dn_ + dr_),
                config.q_lora_rank.value_or(config.hidden_size), device),
      kv_a_proj_(prefix + "kv_a_proj_with_mqa", dc_ + dr_, config.hidden_size, device),
      kv_a_norm_(prefix + "kv_a_layernorm.weight", dc_, kLatentNormEps, device),
      kv_b_proj_(prefix + "kv_b_proj", heads_ * (dn_ + dv_), dc_, device),
      o_proj_(prefix + "o_proj", config.hidden_size, heads_ * dv_, device),
      up_k_(static_cast<size_t>(absorbed_ ? heads_ : 0)),
      up_v_(up_k_.size()),
      up_k_images_(pointers_to(up_k_)),
      up_v_images_(pointers_to(up_v_)) {
  if (config.q_lora_rank) {
    q_a_proj_.emplace(prefix + "q_a_proj", *config.q_lora_rank, config.hidden_size, device);
    q_a_norm_.emplace(prefix + "q_a_layernorm.weight", *config.q_lora_rank, kLatentNormEps, device);
  }
}

void Mla::collect(std::vector<Parameter*>& parameters) {
  if (q_a_proj_) {
    q_a_proj_->collect(parameters);
    q_a_norm_->collect(parameters);
  }
  q_b_proj_.collect(parameters);
  kv_a_proj_.collect(parameters);
  kv_a_norm_.collect(parameters);
  kv_b_proj_.collect(parameters);
  o_proj_.collect(parameters);
}

void Mla::enable_gradients() {
  if (q_a_proj_) {
    q_a_proj_->enable_gradients();
    q_a_norm_->enable_gradients();
  }
  q_b_proj_.enable_gradients();
  kv_a_proj_.enable_gradients();
  kv_a_norm_.enable_gradients();
  kv_b_proj_.enable_gradients();
  o_proj_.enable_gradients();
  up_k_grads_.clear(), up_v_grads_.clear();
  up_k_grad_pointers_.clear(), up_v_grad_pointers_.clear();
  for (int64_t h = 0; h < heads_; ++h) {
    const int64_t row = h * (dn_ + dv_);
    up_k_grads_.push_back(kv_b_proj_.grad().rows(row, row + dn_));
    up_v_grads_.push_back(kv_b_proj_.grad().rows(row + dn_, row + dn_ + dv_));
  }
  for (Tensor& grad : up_k_grads_) up_k_grad_pointers_.push_back(&grad);
  for (Tensor& grad : up_v_grads_) up_v_grad_pointers_.push_back(&grad);
}

void Mla::pack(ExecContext& ctx, const PackOptions& options) {
  if (q_a_proj_) q_a_proj_->pack(ctx, options);
  q_b_proj_.pack(ctx, options);
  kv_a_proj_.pack(ctx, options);
  o_proj_.pack(ctx, options);
  // In both forms: the absorbed one contracts over another axis than the scales of FP8 lie along.
  const PackOptions of_kv_b = options.without_fp8();
  if (!absorbed_) return kv_b_proj_.pack(ctx, of_kv_b);

  for (int64_t h = 0; h < heads_; ++h) {
    const int64_t row = h * (dn_ + dv_);
    kernels::PackedWeight& up_k = up_k_[static_cast<size_t>(h)];
    kernels::PackedWeight& up_v = up_v_[static_cast<size_t>(h)];
    // W_UK is used transposed: its dgrad image is what forward reads.
    kv_b_proj_.pack_rows(ctx, of_kv_b, row, row + dn_, true, up_k);
    kv_b_proj_.pack_rows(ctx, of_kv_b, row + dn_, row + dn_ + dv_, options.with_dgrad, up_v);
  }
  up_k_images_.upload(ctx), up_v_images_.upload(ctx);
  kv_b_proj_.finish(options);
}

Tensor Mla::forward(ExecContext& ctx, const Tensor& x, const RowPlaces& places,
                    kernels::PagedKv& cache, Saved* saved) const {
  const int64_t t = x.dim(0);
  Tensor q = query(ctx, x, places, saved);
  const Latent kv = latent(ctx, x, places, saved);
  Heads heads = absorbed_ ? absorb(ctx, q, kv, saved) : expand(ctx, std::move(q), kv);

  kernels::kv_append(ctx, heads.k, heads.v, places.segments, cache);
  Tensor o = ctx.empty({t, heads_, heads.v.dim(2)}, x.dtype());
  Tensor lse;
  if (saved) lse = ctx.empty({t, heads_}, DType::kF32);
  kernels::attention_forward(ctx, heads.q, cache, places.segments, scale_, o,
                             saved ? &lse : nullptr);
  const Tensor concat = absorbed_ ? value_up(ctx, o, saved) : o.view({t, heads_ * dv_});
  Tensor y = o_proj_.forward(ctx, concat);

  if (saved) {
    saved->x = x;
    saved->q = std::move(heads.q);
    saved->k = std::move(heads.k);
    saved->v = std::move(heads.v);
    saved->o = std::move(o);
    saved->lse = std::move(lse);
    saved->concat = concat;
  }
  return y;
}

Tensor Mla::backward(ExecContext& ctx, const Tensor& dy, const RowPlaces& places,
                     const Saved& saved) {
  const Tensor dconcat = o_proj_.backward(ctx, dy, saved.concat);
  const Tensor dout =
      absorbed_ ? value_up_backward(ctx, dconcat, saved) : dconcat.view(saved.o.shape());
  Heads gradient{ctx.empty(saved.q.shape(), dy.dtype()), ctx.empty(saved.k.shape(), dy.dtype()),
                 ctx.empty(saved.v.shape(), dy.dtype())};
  kernels::attention_backward(ctx, dout, saved.q, saved.k, saved.v, saved.o, saved.lse,
                              places.segments, scale_, gradient.q, gradient.k, gradient.v);

  Tensor dx = ctx.empty(saved.x.shape(), dy.dtype());
  Tensor dq;
  const Latent dlatent =
      absorbed_ ? absorb_backward(ctx, gradient, saved, dq) : expand_backward(ctx, gradient, saved);
  if (!absorbed_) dq = std::move(gradient.q);
  latent_backward(ctx, dlatent, places, saved, dx);
  query_backward(ctx, dq, places, saved, dx);
  return dx;
}

Tensor Mla::query(ExecContext& ctx, const Tensor& x, const RowPlaces& places, Saved* saved) const {
  Tensor q;
  if (q_a_proj_) {
    Tensor q_latent = q_a_proj_->forward(ctx, x);
    Tensor q_normed = q_a_norm_->forward(ctx, q_latent, saved ? &saved->q_rstd : nullptr);
    q = q_b_proj_.forward(ctx, q_normed);
    if (saved) {
      saved->q_latent = std::move(q_latent);
      saved->q_normed = std::move(q_normed);
    }
  } else {
    q = q_b_proj_.forward(ctx, x);
  }
  q = q.view({x.dim(0), heads_, dn_ + dr_});
  kernels::rope_forward(ctx, places.rope_table, places.positions, pairing_, dn_, q);
  return q;
}

// The last user of x's gradient: it adds to what the latent has left there.
void Mla::query_backward(ExecContext& ctx, Tensor& dq, const RowPlaces& places, const Saved& saved,
                         Tensor& dx) {
  kernels::rope_backward(ctx, places.rope_table, places.positions, pairing_, dn_, dq);
  const Tensor flat = dq.view({dq.dim(0), heads_ * (dn_ + dr_)});
  if (!q_a_proj_) return q_b_proj_.backward(ctx, flat, saved.x, dx, Write::kAccumulate);
  const Tensor dnormed = q_b_proj_.backward(ctx, flat, saved.q_normed);
  Tensor dlatent = ctx.empty(dnormed.shape(), dnormed.dtype());
  q_a_norm_->backward(ctx, dnormed, saved.q_latent, saved.q_rstd, dlatent, Write::kOverwrite);
  q_a_proj_->backward(ctx, dlatent, saved.x, dx, Write::kAccumulate);
}

Mla::Latent Mla::latent(ExecContext& ctx, const Tensor& x, const RowPlaces& places,
                        Saved* saved) const {
  const int64_t t = x.dim(0);
  const Tensor both = kv_a_proj_.forward(ctx, x);
  Tensor kv_latent = ctx.empty({t, dc_}, x.dtype());
  Tensor k_pe = ctx.empty({t, 1, dr_}, x.dtype());
  kernels::copy_runs(ctx, {t, 1, dc_}, both, {0, dc_ + dr_, 0}, kv_latent, {0, dc_, 0});
  kernels::copy_runs(ctx, {t, 1, dr_}, both, {dc_, dc_ + dr_, 0}, k_pe, {0, dr_, 0});
  Tensor normed = kv_a_norm_.forward(ctx, kv_latent, saved ? &saved->kv_rstd : nullptr);
  kernels::rope_forward(ctx, places.rope_table, places.positions, pairing_, 0, k_pe);
  if (saved) {
    saved->kv_latent = std::move(kv_latent);
    saved->kv_normed = normed;
  }
  return {std::move(normed), std::move(k_pe)};
}

void Mla::latent_backward(ExecContext& ctx, const Latent& gradient, const RowPlaces& places,
                          const Saved& saved, Tensor& dx) {
  const int64_t t = dx.dim(0);
  Tensor dk_pe = gradient.k_pe;
  kernels::rope_backward(ctx, places.rope_table, places.positions, pairing_, 0, dk_pe);
  Tensor dkv_latent = ctx.empty(saved.kv_latent.shape(), dx.dtype());
  kv_a_norm_.backward(ctx, gradient.normed, saved.kv_latent, saved.kv_rstd, dkv_latent,
                      Write::kOverwrite);
  Tensor dboth = ctx.empty({t, dc_ + dr_}, dx.dtype());
  kernels::copy_runs(ctx, {t, 1, dc_}, dkv_latent, {0, dc_, 0}, dboth, {0, dc_ + dr_, 0});
  kernels::copy_runs(ctx, {t, 1, dr_}, dk_pe, {0, dr_, 0}, dboth, {dc_, dc_ + dr_, 0});
  kv_a_proj_.backward(ctx, dboth, saved.x, dx);
}

}  // namespace moerl
