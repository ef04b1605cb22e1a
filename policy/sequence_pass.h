#pragma once
#include <span>
#include <vector>

#include "policy/kv_cache.h"
#include "policy/transformer.h"

namespace moerl {

/// One training sequence: what was given and what is learned from.
struct TrainSequence {
  std::vector<int32_t> prompt;      ///< at least one token
  std::vector<int32_t> completion;  ///< at least one token
  int64_t num_tokens() const { return static_cast<int64_t>(prompt.size() + completion.size()); }
};

/// Splits sequences [0, n), in order, into runs of at most `max_tokens` tokens (a longer sequence
/// stands alone). @return n_runs + 1 ascending borders.
std::vector<int64_t> split_micro_batches(std::span<const TrainSequence* const> sequences,
                                         int64_t max_tokens);

/// The training forward and backward of one micro-batch: log-probability and entropy of every
/// completion token, flat over the sequences in order. It is the sampler's forward on whole
/// sequences.
class SequencePass {
 public:
  struct Options {
    float temperature = 1;
    bool recompute = false;       ///< of the layers, in backward
    double balance_alpha = 0;     ///< sequence-wise balance loss
    double balance_scale = 1;     ///< weight of one sequence of the balance loss
    double mtp_loss_weight = 0;   ///< lambda of the MTP module's loss; 0 leaves the module out
    double mtp_token_weight = 0;  ///< weight of one token of the MTP loss
  };

  /// @param cache  grown by the caller to num_blocks_needed(); its contents are overwritten.
  SequencePass(ExecContext& ctx, const Transformer& model,
               std::span<const TrainSequence* const> sequences, KvCache& cache,
               const Options& options, bool training);

  /// At least one, so that there is a cache where there are no sequences.
  static int64_t num_blocks_needed(std::span<const TrainSequence* const> sequences);

  /// One value for each completion token.
  std::span<const float> log_probs() const { return log_probs_; }
  std::span<const float> entropy() const { return entropy_; }
  /// Begin of each sequence's completion in the flat spans, and the end of the last.
  std::span<const int64_t> offsets() const { return offsets_; }
  const RoutingCounts& routing() const { return pass_.routing; }
  double balance_loss() const { return pass_.balance_loss; }
  /// Sum over tokens of mtp_token_weight * -log p, before lambda.
  double mtp_loss() const { return mtp_loss_; }

  /// Adds to the model's gradients. @param dentropy may be empty. Once only.
  void backward(ExecContext& ctx, Transformer& model, std::span<const float> dlog_probs,
                std::span<const float> dentropy);

 private:
  void run_mtp(ExecContext& ctx, const Transformer& model, KvCache& cache, bool training);

  Options options_;
  SequenceBatch batch_;
  TrainingPass pass_;
  Tensor hidden_;       // [T, D]
  Tensor loss_hidden_;  // rows of hidden_ that predict a completion token
  std::vector<int32_t> loss_rows_, targets_;
  std::vector<int64_t> offsets_;
  std::vector<float> log_probs_, entropy_, lse_;

  std::vector<int32_t> next_tokens_, mtp_rows_, mtp_targets_;
  Tensor mtp_hidden_, mtp_loss_hidden_;
  std::vector<float> mtp_log_probs_, mtp_lse_;
  double mtp_loss_ = 0;
};

}  // namespace moerl
