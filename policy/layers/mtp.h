#pragma once
#include <string>
#include <vector>

#include "policy/layers/decoder_block.h"

namespace moerl {

/// Multi-token prediction module of depth one (DeepSeek-V3 report, section 2.2):
///
///   x = W [RMSNorm_e(Emb(t_{i+1})); RMSNorm_h(hidden_i)]  through one decoder block and a norm.
///
/// The embedding comes first in the concatenation, as in the released weights, and hidden is the
/// main model's state after its final norm. Embedding table and head are the main model's.
class MtpModule {
 public:
  struct Saved {
    Tensor embedded, embedded_rstd;  // [T, D], [T]
    Tensor hidden, hidden_rstd;
    Tensor both;         // [T, 2 D], what eh_proj reads
    Tensor block_input;  // [T, D]
    DecoderBlock::Saved block;
    Tensor last, last_rstd;  // the stream before shared_head.norm
  };

  /// @param layer  index of the module's block, num_hidden_layers.
  MtpModule(const std::string& prefix, const ModelConfig& config, int64_t layer, Device device,
            const ExpertParallel& experts);

  void collect(std::vector<Parameter*>& parameters);
  void enable_gradients();
  void pack(ExecContext& ctx, const PackOptions& options);
  DecoderBlock& block() { return block_; }

  /// @param embedded [T, D], of the next tokens. @param hidden [T, D].
  /// @param keep_block  false to keep the block's input alone and run it again in backward.
  Tensor forward(ExecContext& ctx, const Tensor& embedded, const Tensor& hidden,
                 const RowPlaces& places, kernels::PagedKv& cache, Saved* saved, bool keep_block,
                 RoutingStats* stats) const;
  /// Returns the gradient of embedded; adds that of hidden to dhidden.
  /// @param saved  with its block filled.
  Tensor backward(ExecContext& ctx, const Tensor& dy, const RowPlaces& places, double balance_alpha,
                  const Saved& saved, Tensor& dhidden);

 private:
  RmsNorm embedded_norm_, hidden_norm_;
  Linear eh_proj_;
  DecoderBlock block_;
  RmsNorm head_norm_;
};

}  // namespace moerl
