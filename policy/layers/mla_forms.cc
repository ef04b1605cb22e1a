// The two ways from the latent to attention: expand it into keys and values of every head, or
// absorb that projection into the queries and the outputs.
#include "kernels/layout/runs.h"
#include "policy/layers/mla.h"

namespace moerl {

Mla::Heads Mla::expand(ExecContext& ctx, Tensor q, const Latent& latent) const {
  const int64_t t = q.dim(0), dk = dn_ + dr_;
  const Tensor up = kv_b_proj_.forward(ctx, latent.normed);  // [T, H (dn + dv)]
  const kernels::HeadRuns up_k{0, heads_ * (dn_ + dv_), dn_ + dv_},
      up_v{dn_, heads_ * (dn_ + dv_), dn_ + dv_};
  Tensor k = ctx.empty({t, heads_, dk}, q.dtype());
  Tensor v = ctx.empty({t, heads_, dv_}, q.dtype());
  kernels::copy_runs(ctx, {t, heads_, dn_}, up, up_k, k, {0, heads_ * dk, dk});
  kernels::copy_runs(ctx, {t, heads_, dr_}, latent.k_pe, {0, dr_, 0}, k, {dn_, heads_ * dk, dk});
  kernels::copy_runs(ctx, {t, heads_, dv_}, up, up_v, v, {0, heads_ * dv_, dv_});
  return {std::move(q), std::move(k), std::move(v)};
}

Mla::Latent Mla::expand_backward(ExecContext& ctx, const Heads& gradient, const Saved& saved) {
  const int64_t t = gradient.k.dim(0), dk = dn_ + dr_;
  const DType dtype = gradient.k.dtype();
  const kernels::HeadRuns up_k{0, heads_ * (dn_ + dv_), dn_ + dv_},
      up_v{dn_, heads_ * (dn_ + dv_), dn_ + dv_};
  Tensor dup = ctx.empty({t, heads_ * (dn_ + dv_)}, dtype);
  kernels::copy_runs(ctx, {t, heads_, dv_}, gradient.v, {0, heads_ * dv_, dv_}, dup, up_v);
  Tensor dk_pe = ctx.empty({t, 1, dr_}, dtype);
  kernels::sum_head_runs(ctx, {t, heads_, dr_}, gradient.k, {dn_, heads_ * dk, dk}, dk_pe);
  kernels::copy_runs(ctx, {t, heads_, dn_}, gradient.k, {0, heads_ * dk, dk}, dup, up_k);
  return {kv_b_proj_.backward(ctx, dup, saved.kv_normed), std::move(dk_pe)};
}

Mla::Heads Mla::absorb(ExecContext& ctx, const Tensor& q, const Latent& latent,
                       Saved* saved) const {
  const int64_t t = q.dim(0), dq = dn_ + dr_, dk = dc_ + dr_;
  Tensor q_nope = ctx.empty({heads_ * t, dn_}, q.dtype());  // heads first: one GEMM group each
  kernels::copy_runs(ctx, {t, heads_, dn_}, q, {0, heads_ * dq, dq}, q_nope, {0, dn_, t * dn_});
  Tensor q_latent = ctx.empty({heads_ * t, dc_}, q.dtype());
  kernels::grouped_linear_dgrad(ctx, q_nope, kernels::GroupOffsets::even(up_k_.size(), t),
                                up_k_images_, q_latent);
  Tensor q_out = ctx.empty({t, heads_, dk}, q.dtype());
  kernels::copy_runs(ctx, {t, heads_, dc_}, q_latent, {0, dc_, t * dc_}, q_out,
                     {0, heads_ * dk, dk});
  kernels::copy_runs(ctx, {t, heads_, dr_}, q, {dn_, heads_ * dq, dq}, q_out,
                     {dc_, heads_ * dk, dk});

  Tensor k = ctx.empty({t, 1, dk}, q.dtype());
  kernels::copy_runs(ctx, {t, 1, dc_}, latent.normed, {0, dc_, 0}, k, {0, dk, 0});
  kernels::copy_runs(ctx, {t, 1, dr_}, latent.k_pe, {0, dr_, 0}, k, {dc_, dk, 0});
  if (saved) saved->q_nope = std::move(q_nope);
  return {std::move(q_out), std::move(k), latent.normed.view({t, 1, dc_})};
}

Mla::Latent Mla::absorb_backward(ExecContext& ctx, const Heads& gradient, const Saved& saved,
                                 Tensor& dq) {
  const int64_t t = gradient.q.dim(0), width = dn_ + dr_, dk = dc_ + dr_;
  const DType dtype = gradient.q.dtype();
  // The latent is the value and the first dc columns of the key.
  Tensor dnormed = ctx.empty({t, dc_}, dtype);
  Tensor dk_pe = ctx.empty({t, 1, dr_}, dtype);
  kernels::copy_runs(ctx, {t, 1, dr_}, gradient.k, {dc_, dk, 0}, dk_pe, {0, dr_, 0});
  kernels::copy_runs(ctx, {t, 1, dc_}, gradient.k, {0, dk, 0}, dnormed, {0, dc_, 0});
  kernels::add_inplace(ctx, gradient.v.view({t, dc_}), dnormed);

  dq = ctx.empty({t, heads_, width}, dtype);
  kernels::copy_runs(ctx, {t, heads_, dr_}, gradient.q, {dc_, heads_ * dk, dk}, dq,
                     {dn_, heads_ * width, width});
  Tensor dq_latent = ctx.empty({heads_ * t, dc_}, dtype);
  kernels::copy_runs(ctx, {t, heads_, dc_}, gradient.q, {0, heads_ * dk, dk}, dq_latent,
                     {0, dc_, t * dc_});
  // q_latent = q_nope W_UK: its gradient runs through the same image the other way.
  const auto offsets = kernels::GroupOffsets::even(up_k_.size(), t);
  kernels::grouped_linear_wgrad(ctx, saved.q_nope, dq_latent, offsets, up_k_grad_pointers_);
  Tensor dq_nope = ctx.empty({heads_ * t, dn_}, dtype);
  kernels::grouped_linear_forward(ctx, dq_latent, offsets, up_k_images_, dq_nope);
  kernels::copy_runs(ctx, {t, heads_, dn_}, dq_nope, {0, dn_, t * dn_}, dq,
                     {0, heads_ * width, width});
  return {std::move(dnormed), std::move(dk_pe)};
}

Tensor Mla::value_up(ExecContext& ctx, const Tensor& o, Saved* saved) const {
  const int64_t t = o.dim(0);
  Tensor o_heads = ctx.empty({heads_ * t, dc_}, o.dtype());
  kernels::copy_runs(ctx, {t, heads_, dc_}, o, {0, heads_ * dc_, dc_}, o_heads, {0, dc_, t * dc_});
  Tensor values = ctx.empty({heads_ * t, dv_}, o.dtype());
  kernels::grouped_linear_forward(ctx, o_heads, kernels::GroupOffsets::even(up_v_.size(), t),
                                  up_v_images_, values);
  Tensor concat = ctx.empty({t, heads_ * dv_}, o.dtype());
  kernels::copy_runs(ctx, {t, heads_, dv_}, values, {0, dv_, t * dv_}, concat,
                     {0, heads_ * dv_, dv_});
  if (saved) saved->o_heads = std::move(o_heads);
  return concat;
}

Tensor Mla::value_up_backward(ExecContext& ctx, const Tensor& dconcat, const Saved& saved) {
  const int64_t t = dconcat.dim(0);
  const DType dtype = dconcat.dtype();
  const auto offsets = kernels::GroupOffsets::even(up_v_.size(), t);
  Tensor dvalues = ctx.empty({heads_ * t, dv_}, dtype);
  kernels::copy_runs(ctx, {t, heads_, dv_}, dconcat, {0, heads_ * dv_, dv_}, dvalues,
                     {0, dv_, t * dv_});
  kernels::grouped_linear_wgrad(ctx, dvalues, saved.o_heads, offsets, up_v_grad_pointers_);
  Tensor do_heads = ctx.empty({heads_ * t, dc_}, dtype);
  kernels::grouped_linear_dgrad(ctx, dvalues, offsets, up_v_images_, do_heads);
  Tensor dout = ctx.empty({t, heads_, dc_}, dtype);
  kernels::copy_runs(ctx, {t, heads_, dc_}, do_heads, {0, dc_, t * dc_}, dout,
                     {0, heads_ * dc_, dc_});
  return dout;
}

}  // namespace moerl
