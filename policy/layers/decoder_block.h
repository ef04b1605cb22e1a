#pragma once
#include <string>
#include <variant>
#include <vector>

#include "policy/layers/gqa.h"
#include "policy/layers/mla.h"
#include "policy/layers/moe.h"
#include "policy/layers/rms_norm.h"
#include "policy/layers/swiglu_mlp.h"

namespace moerl {

/// One pre-norm decoder layer on the residual stream x:
///   x += Attention(RMSNorm_in(x));  x += Ffn(RMSNorm_post(x)),
/// Attention an Mla or a Gqa, Ffn a dense SwiGluMlp or a Moe.
class DecoderBlock {
 public:
  struct Saved {
    Tensor input, input_rstd;     // [T, D], [T]: the stream before attention
    Mla::Saved latent_attention;  // of the one that the layer has
    Gqa::Saved grouped_attention;
    Tensor middle, middle_rstd;  // the stream before the feed-forward
    SwiGluMlp::Saved dense;      // of the one that the layer has
    Moe::Saved experts;
  };

  /// @param prefix  of the parameters' names, with its dot. @param layer  decides dense or experts.
  DecoderBlock(const std::string& prefix, const ModelConfig& config, int64_t layer, Device device,
               const ExpertParallel& experts);

  void collect(std::vector<Parameter*>& parameters);
  void enable_gradients();
  void pack(ExecContext& ctx, const PackOptions& options);
  /// Null in a dense layer.
  Moe* moe() { return std::get_if<Moe>(&ffn_); }

  /// Moves the stream past this layer; the last addition is left pending in stream.delta. On return
  /// stream.x is the layer's own and may be shared with `saved`.
  /// @param input  out: the stream as it entered; null if not wanted.
  void forward(ExecContext& ctx, Residual& stream, const RowPlaces& places, kernels::PagedKv& cache,
               Saved* saved, RoutingStats* stats, Tensor* input = nullptr) const;
  /// @param dx  the stream's gradient after the layer; becomes that before it.
  void backward(ExecContext& ctx, Tensor& dx, const RowPlaces& places, double balance_alpha,
                const Saved& saved);

 private:
  RmsNorm input_norm_;
  std::variant<Mla, Gqa> attention_;
  RmsNorm post_attention_norm_;
  std::variant<SwiGluMlp, Moe> ffn_;
};

}  // namespace moerl
