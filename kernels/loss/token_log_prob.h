#pragma once
#include <span>

#include "kernels/exec_context.h"
#include "kernels/gemm/linear.h"

namespace moerl::kernels {

/// Log-probability of the target token and entropy of the distribution, for each row of logits.
/// With z = logits[t, 0 : vocab_size) * (1 / temperature) (one fp32 multiplication each),
/// m = max z, s = sum exp(z - m) (sixteen lane sums over v mod 16, ascending, then the lane tree):
///
///   lse = m + log s,  log_prob = z[target] - lse,  entropy = log s - sum(exp(z - m) (z - m)) / s
///
/// This row function is the only place where log-probabilities are made: the sampler and the
/// training forward both call it, so they agree bit for bit.
/// A logit of -inf is a token of probability 0; a row with NaN, +inf or only -inf gives NaN.
/// @param logits     [T, Vp] fp32; columns from vocab_size on are padding and never looked at.
/// @param temperature  > 0 and finite.
/// @param targets    [T], in [0, vocab_size).
/// @param log_probs  out [T] fp32. @param entropy out [T] or empty. @param lse out [T] or empty.
/// @throws std::invalid_argument if a shape, type or target is wrong.
void log_prob_from_logits(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                          float temperature, std::span<const int32_t> targets,
                          std::span<float> log_probs, std::span<float> entropy,
                          std::span<float> lse);

/// log_prob_from_logits of hidden * head^T, computed for a few rows at a time: [T, V] logits never
/// exist. Same bits as linear_forward followed by log_prob_from_logits.
/// @param hidden [T, D] of the head's working type.
void token_log_prob_forward(ExecContext& ctx, const Tensor& hidden, const PackedWeight& head,
                            int64_t vocab_size, float temperature, std::span<const int32_t> targets,
                            std::span<float> log_probs, std::span<float> entropy,
                            std::span<float> lse);

/// What the two functions below and above take beside their results for so many rows, at most:
/// logits of the rows that exist at a time.
int64_t token_log_prob_workspace_bytes(int64_t rows, int64_t vocab_size, DType dtype);

/// Backward of token_log_prob_forward; recomputes the logits. With p = exp(z - lse), H the entropy:
///
///   dz[v] = dlog_prob * (1[v = target] - p[v]) - dentropy * p[v] * (z[v] - lse + H),
///   dlogit = dz / temperature (rounded to the working type), then the two GEMMs.
///
/// @param head     with its dgrad image. @param lse, entropy  [T], those of the forward.
/// @param dentropy empty if the entropy carries no gradient; entropy may then be empty too.
/// @param dhidden out [T, D] of the working type or fp32, overwritten.
/// @param dhead [V, D] fp32, accumulated, tokens ascending in chunks whose size depends on V alone.
void token_log_prob_backward(ExecContext& ctx, const Tensor& hidden, const PackedWeight& head,
                             int64_t vocab_size, float temperature,
                             std::span<const int32_t> targets, std::span<const float> lse,
                             std::span<const float> entropy, std::span<const float> dlog_probs,
                             std::span<const float> dentropy, Tensor& dhidden, Tensor& dhead);

}  // namespace moerl::kernels
