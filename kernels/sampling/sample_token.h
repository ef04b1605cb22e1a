#pragma once
#include <cstdint>
#include <span>

#include "common/rng.h"
#include "kernels/list.h"

namespace moerl::kernels {

/// The number of [0, 1) that draws a row's token: a given one, or sampling_uniform() of its
/// arguments, computed where the row is drawn.
class Uniform {
 public:
  constexpr Uniform(float value = 0) : given_(value) {}  // NOLINT: as a number
  constexpr Uniform(uint64_t seed, uint64_t prompt_id, uint32_t sample_index, uint32_t position)
      : seed_(seed),
        prompt_id_(prompt_id),
        sample_index_(sample_index),
        position_(position),
        is_given_(0) {}
  constexpr float value() const {
    return is_given_ ? given_ : sampling_uniform(seed_, prompt_id_, sample_index_, position_);
  }

 private:
  uint64_t seed_ = 0, prompt_id_ = 0;
  uint32_t sample_index_ = 0, position_ = 0;
  float given_ = 0;
  uint32_t is_given_ = 1;
};

/// How one row draws its token. Field meanings: SamplingParams of rollout.proto.
struct SampleParams {
  float temperature = 1;  ///< >= 0 and finite; 0: the likeliest token, lowest id on ties
  int32_t top_k = 0;      ///< >= 0; 0: all
  float top_p = 1;        ///< in (0, 1]
  float min_p = 0;        ///< in [0, 1)
  Uniform uniform;        ///< in [0, 1)
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

/// What was drawn for a row.
struct TokenDraw {
  int32_t token;   ///< -1: the row has no distribution
  float log_prob;  ///< of such a row its log-sum-exp
};
inline constexpr int64_t kTokenDrawWords = sizeof(TokenDraw) / sizeof(int32_t);

/// sample_token on kCuda without the host: what it reads and writes lies there.
/// @param params  [T]; what lies on kCuda alone is not checked.
/// @param draws out [T, kTokenDrawWords] i32: a TokenDraw for each row.
void sample_token(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                  const List<SampleParams>& params, Tensor& draws);
/// Tokens that a step was drawn as become the next step's input, on kCuda without the host:
/// token_ids[t] = the token of draws[sources[t]] where sources[t] >= 0. A row that had no
/// distribution gives 0; take_draws names it.
/// @param draws  of sample_token. @param sources [T] rows of draws, or -1.
/// @param token_ids in/out [T], in the memory of kCuda.
void continue_tokens(ExecContext& ctx, const Tensor& draws, const List<int32_t>& sources,
                     int32_t* token_ids);
/// Draws that have come to the host, as sample_token gives them.
/// @throws NumericalError naming the lowest row without a distribution.
void take_draws(std::span<const TokenDraw> draws, std::span<int32_t> tokens,
                std::span<float> log_probs);

}  // namespace moerl::kernels
