#pragma once
#include <cstdint>
#include <span>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// How one row draws its token. Field meanings: SamplingParams of rollout.proto.
struct SampleParams {
  float temperature = 1;  ///< >= 0 and finite; 0: the likeliest token, lowest id on ties
  int32_t top_k = 0;      ///< >= 0; 0: all
  float top_p = 1;        ///< in (0, 1]
  float min_p = 0;        ///< in [0, 1)
  float uniform = 0;      ///< in [0, 1); see sampling_uniform() in common/rng.h
};

/// Draws a token for each row by inverse CDF, token ids ascending. With z and m as in
/// log_prob_from_logits, and e[v] = exp(z[v] - m) for kept tokens and 0 for the others, in fp32:
///
///   C(v) = the sum of e[0 .. v] in the order of log_prob_from_logits (sixteen lane sums over ids
///          mod 16, then the lane tree),   token = the first v with C(v) > uniform * C(last)
///
/// C never falls, and it rises at v only if e[v] > 0, so no rounding can choose a token that is not
/// kept, nor none at all.
///
/// Kept are, narrowed in this order (order of likelihood: logit descending, id ascending on ties):
///   top-k: the first top_k;
///   top-p: of those, the fewest first ones whose sum of e reaches top_p * the sum over them all,
///          e in fixed point cut off at 2^-40, so that sums are exact in any order;
///   min-p: of those, the ones with e >= min_p.
///
/// log_probs[t] is that of log_prob_from_logits at the row's temperature (1 when it is 0): over the
/// whole vocabulary, before narrowing.
/// @param logits [T, Vp] fp32; columns from vocab_size on are never sampled. -inf: never sampled.
/// @throws NumericalError naming the lowest row that has a NaN, +inf, or nothing but -inf.
/// @throws std::invalid_argument if a shape, type or parameter is out of range.
void sample_token(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                  std::span<const SampleParams> params, std::span<int32_t> tokens,
                  std::span<float> log_probs);

}  // namespace moerl::kernels
