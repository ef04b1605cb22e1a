#pragma once
// The inside of Transformer, shared by its source files and by nobody else.
#include <deque>
#include <optional>
#include <vector>

#include "policy/layers/decoder_block.h"
#include "policy/layers/mtp.h"
#include "policy/transformer.h"

namespace moerl {

struct TransformerSaved {
  std::vector<DecoderBlock::Saved> layers;  // under recompute, `input` alone
  Tensor last, last_rstd;                   // the stream before the final norm
  std::optional<MtpModule::Saved> mtp;
};

struct Transformer::Impl {
  Impl(const ModelConfig& config, Precision precision, Masters masters, Device device,
       const ExpertParallel& experts);

  RowPlaces places(const ForwardBatch& batch) const {
    return {batch.positions, batch.segments, rope_table};
  }
  Tensor embed(ExecContext& ctx, const kernels::List<int32_t>& token_ids) const;
  /// What both of Transformer's do when the batch is checked.
  Tensor forward(ExecContext& ctx, const kernels::List<int32_t>& token_ids, const RowPlaces& places,
                 KvCache& cache, TrainingPass* pass, std::vector<Tensor>* chosen_experts) const;
  /// @throws std::invalid_argument without working images.
  void check_packed() const;
  /// @throws std::invalid_argument naming what is wrong with the batch.
  void check_batch(const ForwardBatch& batch, bool training) const;
  void check_backward(const TrainingPass& pass) const;
  /// Fills `saved` by running a block on its input once more, over a cache of its own.
  void run_again(ExecContext& ctx, const DecoderBlock& block, const Tensor& input,
                 const RowPlaces& places, kernels::PagedKv& cache,
                 DecoderBlock::Saved& saved) const;
  /// A cache of one layer with the blocks that the batch names.
  kernels::PagedKv scratch_cache(const RowPlaces& places) const;
  void pack(ExecContext& ctx, const PackOptions& options);
  void pack_embedding(ExecContext& ctx, const PackOptions& options);
  /// To a master that has none.
  void give_memory(Parameter& parameter);
  /// The expert layers: hidden layers first, then the MTP module's.
  std::vector<Moe*> moe_layers();

  ModelConfig config;
  Precision precision;
  DType dtype;  // of the precision
  Masters masters;
  Device device;
  ExpertParallel experts;
  Parameter embed_tokens;
  Tensor embedding;  // [V, D], what forward reads: the master, or without it the working type
  std::deque<DecoderBlock> blocks;  // does not move what it holds
  std::optional<MtpModule> mtp;
  RmsNorm final_norm;
  std::optional<Linear> lm_head;    // absent when tied
  kernels::PackedWeight tied_head;  // of embed_tokens
  Tensor rope_table;                // [max_position_embeddings, rotated width]
  std::vector<Parameter*> parameters;
  bool packed = false, packed_with_dgrad = false, has_gradients = false;
};

}  // namespace moerl
