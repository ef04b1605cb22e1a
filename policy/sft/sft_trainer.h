#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "policy/optim/adamw.h"
#include "policy/sequence_pass.h"

namespace moerl {

/// Supervised fine-tuning on completions (the prompt is not learned).
struct SftConfig {
  int64_t total_epochs = 1;
  int64_t train_batch_size = 32;  ///< sequences of one optimizer step
  int64_t max_token_len = 16384;  ///< tokens of one micro-batch
  bool recompute = false;
  double mtp_loss_weight = 0;              ///< lambda of the MTP module's loss
  double aux_loss_alpha = 0.0001;          ///< sequence-wise balance loss
  double router_bias_update_rate = 0.001;  ///< aux-loss-free balancing
  OptimConfig optim;
};
void visit_fields(FieldVisitor& v, SftConfig& c);

/// The learner of an SFT stage: token-mean cross-entropy over the completions of each batch.
class SftTrainer {
 public:
  /// @param model  gradients enabled, weights packed.
  /// @param total_steps  length of the learning rate schedule.
  SftTrainer(ExecContext& ctx, Transformer& model, AdamW& optimizer, const SftConfig& config,
             int64_t total_steps);

  /// One optimizer step; with several ranks in optimizer.parallel() all of them call it, with the
  /// same batch. @return train/loss, train/grad_norm, train/lr, train/tokens, ….
  /// @throws NumericalError on NaN.
  std::map<std::string, double> update(std::span<const TrainSequence* const> batch);

  /// Mean negative log-likelihood of the completion tokens; changes nothing. Called by all ranks
  /// that share experts.
  double evaluate(std::span<const TrainSequence* const> batch);

 private:
  /// What the micro-batches of a shard measured. Travels between ranks as it is.
  struct Figures {
    double loss = 0, correct_tokens = 0, balance = 0, mtp = 0;
  };
  /// Of a whole batch: what each of its tokens and sequences weighs.
  struct BatchSizes {
    double tokens = 0, mtp_tokens = 0, sequences = 0;
  };
  Figures run_shard(std::span<const TrainSequence* const> shard, const BatchSizes& sizes,
                    RoutingCounts& routing);
  KvCache& training_cache(int64_t num_blocks);

  ExecContext& ctx_;
  Transformer& model_;
  AdamW& optimizer_;
  SftConfig config_;
  int64_t total_steps_;
  std::unique_ptr<KvCache> cache_;
};

}  // namespace moerl
