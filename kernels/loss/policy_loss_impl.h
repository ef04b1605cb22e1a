#pragma once
// The arithmetic of one token, the same on every device: constexpr functions, so that CUDA kernels
// may call them. Nothing of the C library, whose last bits differ between machines.
#include <bit>
#include <cstdint>

#include "kernels/loss/policy_loss.h"

namespace moerl::kernels {

constexpr double limit(double x, double low, double high) {
  return x < low ? low : high < x ? high : x;
}

/// e^x for |x| <= 20, and NaN of NaN.
constexpr double exp_fixed(double x) {
  if (x != x) return x;
  // 1/13!, 1/12!, ..., 1/0!: the Taylor polynomial, exact to fp64 for |r| <= ln(2) / 2.
  constexpr double kInverseFactorials[] = {1.0 / 6227020800,
                                           1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           1.0 / 2,
                                           1.0,
                                           1.0};
  const double shifted = x * 1.4426950408889634 + 0.5;
  auto exponent = static_cast<int64_t>(shifted);
  if (static_cast<double>(exponent) > shifted) --exponent;  // rounded down
  const auto n = static_cast<double>(exponent);
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 0;
  for (double c : kInverseFactorials) p = p * r + c;
  return p * std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

/// A value and its derivative with respect to the log-probability.
struct Term {
  double value = 0, derivative = 0;
};

constexpr Term clamp(Term term, double most) {
  const double clamped = limit(term.value, -most, most);
  return {clamped, clamped == term.value ? term.derivative : 0};
}

struct PolicyTerm {
  Term term;
  bool clipped = false, clipped_lower = false;
};

inline constexpr double kMaxLogRatio = 20, kMaxK3 = 10;

constexpr PolicyTerm policy_term(const PolicyLossConfig& config, Term ratio, double advantage) {
  const double clipped_ratio =
      limit(ratio.value, 1.0 - config.clip_ratio_low, 1.0 + config.clip_ratio_high);
  PolicyTerm out{{-advantage * ratio.value, -advantage * ratio.derivative}};
  if (-advantage * clipped_ratio > out.term.value) {
    out.term = {-advantage * clipped_ratio, 0};
    out.clipped = true;
  }
  if (config.clip_ratio_c > 0 && advantage < 0 &&
      out.term.value > -advantage * config.clip_ratio_c) {
    out.term = {-advantage * config.clip_ratio_c, 0};
    out.clipped_lower = true;
  }
  return out;
}

constexpr Term kl_term(KlType type, Term ratio, double log_prob, double ref_log_prob) {
  if (type == KlType::kNone) return {};
  const Term x = clamp({ref_log_prob - log_prob, -1}, kMaxLogRatio);
  const Term k1{-x.value, -x.derivative};
  const Term k2{x.value * x.value / 2, x.value * x.derivative};
  const double e = exp_fixed(x.value);
  const Term k3 = clamp({e - x.value - 1, (e - 1) * x.derivative}, kMaxK3);
  switch (type) {
    case KlType::kNone:
      break;
    case KlType::kK1:
      return k1;
    case KlType::kK2:
      return k2;
    case KlType::kK3:
      return k3;
    case KlType::kK3Unbiased:
      return {ratio.value * k3.value, ratio.derivative * k3.value + ratio.value * k3.derivative};
    case KlType::kK1Plus:
      return {k1.value, k2.derivative};
    case KlType::kK3Plus:
      return {k3.value, k2.derivative};
  }
  return {};
}

struct PolicyLossToken {
  float log_prob, old_log_prob, ref_log_prob, entropy, advantage, weight;
};
struct PolicyLossTerms {
  PolicyLossSums sums;  ///< of this token alone
  float dlog_prob, dentropy;
};

constexpr PolicyLossTerms policy_loss_terms(const PolicyLossConfig& config,
                                            const PolicyLossToken& token) {
  const double weight = token.weight, log_prob = token.log_prob, old = token.old_log_prob;
  const Term log_ratio = clamp({log_prob - old, 1}, kMaxLogRatio);
  const double r = exp_fixed(log_ratio.value);
  const Term ratio{r, r * log_ratio.derivative};
  const PolicyTerm policy = policy_term(config, ratio, token.advantage);
  const Term kl = kl_term(config.kl, ratio, log_prob, token.ref_log_prob);
  // An entropy that is only watched stays out of the loss even if it is infinite.
  const double entropy = token.entropy;
  const double entropy_part = config.entropy_coef == 0 ? 0.0 : config.entropy_coef * entropy;
  PolicyLossTerms terms{};
  terms.sums.loss = weight * (policy.term.value + config.kl_coef * kl.value - entropy_part);
  terms.sums.policy = weight * policy.term.value;
  terms.sums.kl = weight * kl.value;
  terms.sums.entropy = weight * entropy;
  terms.sums.ppo_kl = old - log_prob;
  terms.sums.clipped = policy.clipped ? 1 : 0;
  terms.sums.clipped_lower = policy.clipped_lower ? 1 : 0;
  terms.sums.tokens = 1;
  terms.dlog_prob =
      static_cast<float>(weight * (policy.term.derivative + config.kl_coef * kl.derivative));
  terms.dentropy = static_cast<float>(-weight * config.entropy_coef);
  return terms;
}

/// policy_loss on the device; all pointers are the device's.
struct PolicyLossCudaArgs {
  PolicyLossConfig config;
  int64_t tokens;
  const float *log_probs, *old_log_probs;
  const float *ref_log_probs, *entropy;  ///< either may be null
  const float *advantages, *weights;
  float *dlog_probs, *dentropy;  ///< dentropy may be null
  PolicyLossSums* terms;         ///< scratch [tokens]
  PolicyLossSums* sums;
};

struct PolicyLossCuda {
  void (*run)(const PolicyLossCudaArgs& args);
};

}  // namespace moerl::kernels
