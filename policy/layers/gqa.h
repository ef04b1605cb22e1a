#pragma once
#include <optional>
#include <string>
#include <vector>

#include "policy/layers/linear.h"
#include "policy/layers/rms_norm.h"
#include "policy/layers/row_places.h"
#include "policy/model_config.h"

namespace moerl {

/// Grouped-query attention (arXiv:2305.13245): H query heads of width dh, Hk key and value heads,
/// each shared by H / Hk neighbouring query heads. With h the normed input, per token:
///
///   q = W_Q h (+ b),  k = W_K h (+ b),  v = W_V h (+ b);  where the model has qk_norm, an RMSNorm
///   over each head of q and of k, its weight shared by the heads;  rotary embedding on all of q
///   and k;  causal softmax attention;  W_O on the heads' outputs (+ b).
class Gqa {
 public:
  struct Saved {
    Tensor x;                // [T, D]
    Tensor q_raw, k_raw;     // [T, H, dh], [T, Hk, dh] before their norms; with qk_norm alone
    Tensor q_rstd, k_rstd;   // [T H], [T Hk]
    Tensor q, k, v, o, lse;  // of the attention kernel
  };

  /// @param prefix  of the parameters' names, with its dot.
  Gqa(const std::string& prefix, const ModelConfig& config, Device device);

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
  /// Heads [first, first + count) of the projections' output, [T, count, dh], and back.
  Tensor take_heads(ExecContext& ctx, const Tensor& qkv, int64_t first, int64_t count) const;
  void put_heads(ExecContext& ctx, const Tensor& heads, int64_t first, Tensor& qkv) const;

  const int64_t heads_, kv_heads_, dh_;
  const float scale_;
  const kernels::RopePairing pairing_;
  Linear qkv_proj_;
  std::optional<RmsNorm> q_norm_, k_norm_;
  Linear o_proj_;
};

}  // namespace moerl
