#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "policy/grpo/grpo_config.h"
#include "policy/optim/adamw.h"
#include "policy/sequence_pass.h"

namespace moerl {

/// One sampled answer, ready to learn from.
struct GrpoSample {
  TrainSequence sequence;
  std::vector<float>
      rollout_log_probs;  ///< of every completion token, as the sampler recorded them
  float advantage = 0;    ///< of every completion token
  int64_t group = 0;      ///< samples of one prompt share it; groups are contiguous
  bool in_loss = true;    ///< false: unscorable or masked, takes no part
};

/// Averages over one update, in verl's names (actor/pg_loss, actor/entropy, …).
using Metrics = std::map<std::string, double>;

/// The learner of a GRPO stage: from samples with advantages to new weights.
class GrpoTrainer {
 public:
  /// @param policy    gradients must be enabled; weights packed.
  /// @param reference frozen policy of the KL loss; null without it. Replaced by
  /// update_reference().
  /// @param temperature  of the rollout: log-probs are those of logits / temperature.
  /// @param max_response_length  C of seq-mean-token-sum-norm if the config leaves it open.
  /// @param total_optimizer_steps  length of the learning rate schedule.
  GrpoTrainer(ExecContext& ctx, Transformer& policy, AdamW& optimizer, const GrpoConfig& config,
              float temperature, int64_t max_response_length, int64_t total_optimizer_steps);

  /// The frozen copy of the KL loss.
  void set_reference(std::unique_ptr<Transformer> reference) { reference_ = std::move(reference); }
  Transformer* reference() { return reference_.get(); }

  /// Runs ppo_epochs over the mini-batches of the samples: forward, loss, backward, clip, AdamW,
  /// repack. The first forward sees the weights that sampled: there the log-probs must equal the
  /// sampler's. With several ranks in optimizer.parallel() all of them call it, with the same
  /// samples; each computes its shards and gets the same metrics.
  /// @throws std::logic_error if they do not and the config requires it; NumericalError on NaN.
  Metrics update(std::span<const GrpoSample> samples);

 private:
  struct Figures;
  struct Sums;
  void update_mini_batch(std::span<const GrpoSample> samples, bool on_policy, Sums& sums);
  Figures run_shard(std::span<const GrpoSample* const> samples, std::span<const double> weights,
                    double sequence_weight, bool on_policy, RoutingCounts& routing);
  void run_micro_batch(std::span<const GrpoSample* const> samples, std::span<const double> weights,
                       double sequence_weight, bool on_policy, Figures& figures,
                       RoutingCounts& routing);
  KvCache& training_cache(int64_t num_blocks);

  ExecContext& ctx_;
  Transformer& policy_;
  AdamW& optimizer_;
  GrpoConfig config_;
  kernels::PolicyLossConfig loss_config_;
  float temperature_;
  int64_t max_response_length_, total_optimizer_steps_;
  std::unique_ptr<Transformer> reference_;
  std::unique_ptr<KvCache> cache_;
};

}  // namespace moerl
