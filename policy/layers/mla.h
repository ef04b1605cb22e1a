#pragma once
#include <optional>
#include <string>
#include <vector>

#include "policy/layers/linear.h"
#include "policy/layers/rms_norm.h"
#include "policy/layers/row_places.h"
#include "policy/model_config.h"

namespace moerl {

/// Multi-head latent attention of DeepSeek-V2/V3 (arXiv:2405.04434, section 2.1). With h the
/// normed input, per token:
///
///   q = W_UQ norm(W_DQ h)  (or W_Q h),  [c; k_pe] = W_DKV h,  chat = norm(c),
///   rotary embedding on the last dr of every q head and on k_pe, which all heads share.
///
/// Expanded form: [k_nope; v] = W_UKV chat for each head; heads attend with keys [k_nope; k_pe].
/// Absorbed form, with W_UKV split into W_UK and W_UV for each head: q_c = W_UK^T q_nope; all heads
/// attend to the one key [chat; k_pe] and value chat, o = W_UV o_c. Same function, other rounding.
class Mla {
 public:
  struct Saved {
    Tensor x;                              // [T, D]
    Tensor q_latent, q_rstd, q_normed;     // [T, dcq], [T], [T, dcq]; with q_lora_rank alone
    Tensor kv_latent, kv_rstd, kv_normed;  // [T, dc], [T], [T, dc]
    Tensor q_nope;                         // [H, T, dn]; absorbed alone
    Tensor q, k, v, o, lse;                // of the attention kernel
    Tensor o_heads;                        // [H, T, dc]; absorbed alone
    Tensor concat;                         // [T, H dv], what o_proj reads
  };

  /// @param prefix  of the parameters' names, with its dot.
  Mla(const std::string& prefix, const ModelConfig& config, Device device);

  void collect(std::vector<Parameter*>& parameters);
  void enable_gradients();
  void pack(ExecContext& ctx, const PackOptions& options);

  /// Appends the rows' keys and values to the cache. @param x [T, D]. @param saved  null in
  /// inference.
  Tensor forward(ExecContext& ctx, const Tensor& x, const RowPlaces& places,
                 kernels::PagedKv& cache, Saved* saved) const;
  /// Returns dx [T, D]; adds to the parameters' gradients. Segments must be whole sequences.
  Tensor backward(ExecContext& ctx, const Tensor& dy, const RowPlaces& places, const Saved& saved);

 private:
  /// Queries after the rotary embedding, [T, H, dn + dr].
  Tensor query(ExecContext& ctx, const Tensor& x, const RowPlaces& places, Saved* saved) const;
  void query_backward(ExecContext& ctx, Tensor& dq, const RowPlaces& places, const Saved& saved,
                      Tensor& dx);
  /// chat [T, dc] and the rotated k_pe [T, dr].
  struct Latent {
    Tensor normed, k_pe;
  };
  Latent latent(ExecContext& ctx, const Tensor& x, const RowPlaces& places, Saved* saved) const;
  void latent_backward(ExecContext& ctx, const Latent& gradient, const RowPlaces& places,
                       const Saved& saved, Tensor& dx);

  /// What the chosen form hands to the attention kernel.
  struct Heads {
    Tensor q, k, v;
  };
  Heads expand(ExecContext& ctx, Tensor q, const Latent& latent) const;
  Heads absorb(ExecContext& ctx, const Tensor& q, const Latent& latent, Saved* saved) const;
  /// From the kernel's gradients to those of q and the latent.
  Latent expand_backward(ExecContext& ctx, const Heads& gradient, const Saved& saved);
  Latent absorb_backward(ExecContext& ctx, const Heads& gradient, const Saved& saved, Tensor& dq);
  /// Absorbed: [T, H, dc] -> [T, H dv] by W_UV, and back.
  Tensor value_up(ExecContext& ctx, const Tensor& o, Saved* saved) const;
  Tensor value_up_backward(ExecContext& ctx, const Tensor& dconcat, const Saved& saved);

  const int64_t heads_, dn_, dr_, dv_, dc_;
  const bool absorbed_;
  const float scale_;
  const kernels::RopePairing pairing_;
  std::optional<Linear> q_a_proj_;
  std::optional<RmsNorm> q_a_norm_;
  Linear q_b_proj_;  // q_proj where there is no q_lora_rank
  Linear kv_a_proj_;
  RmsNorm kv_a_norm_;
  Linear kv_b_proj_;
  Linear o_proj_;
  // Absorbed: images and gradients of kv_b_proj's row ranges, W_UK [dn, dc] and W_UV [dv, dc].
  std::vector<kernels::PackedWeight> up_k_, up_v_;
  kernels::WeightList up_k_images_, up_v_images_;
  std::vector<Tensor> up_k_grads_, up_v_grads_;
  std::vector<Tensor*> up_k_grad_pointers_, up_v_grad_pointers_;
};

}  // namespace moerl
