#pragma once
#include <cstdint>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl {

struct TokenLogProb {
  int32_t token = 0;
  float log_prob = 0;
  friend bool operator==(const TokenLogProb&, const TokenLogProb&) = default;
};

/// The likeliest tokens of each row of logits, likeliest first, lowest id first on ties. The
/// log-probs are the bits of kernels::log_prob_from_logits for these tokens.
/// @param logits  [T, Vp] fp32; columns from vocab_size on are padding.
/// @param temperature  > 0. @param k  >= 1; a row gets min(k, vocab_size) tokens.
/// @throws std::invalid_argument if a shape, type or value is wrong.
std::vector<std::vector<TokenLogProb>> top_log_probs(ExecContext& ctx, const Tensor& logits,
                                                     int64_t vocab_size, float temperature,
                                                     int64_t k);

}  // namespace moerl
