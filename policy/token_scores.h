#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "policy/top_log_probs.h"
#include "policy/transformer.h"

namespace moerl {

struct TokenScoreOptions {
  float temperature = 1;      ///< > 0: the distribution is that of logits / temperature
  int64_t max_tokens = 4096;  ///< of one forward; a longer sequence runs alone. Changes no bit
  bool with_experts = false;
  int64_t num_top = 0;  ///< likeliest tokens listed for each place
};

/// What a model says of one given sequence of n tokens.
struct TokenScores {
  std::vector<float> log_probs;  ///< [n - 1]: of tokens 1 …, each given those before it
  std::vector<float>
      entropy;  ///< [n - 1], nats: of the distribution that token i + 1 was drawn from
  /// [n][MoE layers][K]: the experts that ran for each token, in the router's order; empty unless
  /// asked for. The MTP module is not part of it.
  std::vector<std::vector<std::vector<int32_t>>> experts;
  /// [n - 1][num_top]: the likeliest tokens in the place of tokens 1 …; empty unless asked for.
  std::vector<std::vector<TokenLogProb>> top;
};

/// Scores sequences with the forward that samples and trains, so the log-probs are the bits that
/// the sampler records at the same temperature. Memory beside the model: keys and values of all
/// layers and the activations of one layer for max_tokens tokens, and the logits of 64 rows or of
/// 64 MiB, whichever is more.
/// @param sequences  each of at least one token id below the model's sampled_vocab_size().
/// @throws std::invalid_argument for an empty sequence, an id out of range, or one that is longer
///   than max_position_embeddings; NumericalError naming the sequence if a log-prob is not finite.
std::vector<TokenScores> score_tokens(ExecContext& ctx, const Transformer& model,
                                      std::span<const std::vector<int32_t>> sequences,
                                      const TokenScoreOptions& options = {});

}  // namespace moerl
