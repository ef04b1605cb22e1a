#include "kernels/loss/policy_loss.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/check_tensor.h"

namespace moerl::kernels {
namespace {

constexpr double kMaxLogRatio = 20, kMaxK3 = 10;

/// 1/13!, 1/12!, ..., 1/0!: the Taylor polynomial of e^r, exact to fp64 for |r| <= ln(2) / 2.
constexpr std::array<double, 14> kInverseFactorials = [] {
  std::array<double, 14> c{};
  double factorial = 1;
  for (int k = 0; k < 14; ++k) {
    c[13 - static_cast<size_t>(k)] = 1 / factorial;
    factorial *= k + 1;
  }
  return c;
}();

/// e^x for |x| <= 20, and NaN of NaN. Not std::exp: the C library chooses an implementation by the
/// machine's instruction set, and their last bits differ.
double exp_fixed(double x) {
  if (std::isnan(x)) return x;
  const double n = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 0;
  for (double c : kInverseFactorials) p = p * r + c;
  return p * std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52);
}

/// A value and its derivative with respect to the log-probability.
struct Term {
  double value = 0, derivative = 0;
};

Term clamp(Term term, double limit) {
  const double clamped = std::clamp(term.value, -limit, limit);
  return {clamped, clamped == term.value ? term.derivative : 0};
}

struct PolicyTerm {
  Term term;
  bool clipped = false, clipped_lower = false;
};

PolicyTerm policy_term(const PolicyLossConfig& config, Term ratio, double advantage) {
  const double clipped_ratio =
      std::clamp(ratio.value, 1.0 - config.clip_ratio_low, 1.0 + config.clip_ratio_high);
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

Term kl_term(KlType type, Term ratio, double log_prob, double ref_log_prob) {
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

void check_arguments(const PolicyLossConfig& config, const PolicyLossInput& in,
                     std::span<float> dlog_probs, std::span<float> dentropy) {
  const char* op = "policy_loss";
  const auto size = static_cast<int64_t>(in.log_probs.size());
  check_size(op, "old_log_probs", in.old_log_probs.size(), size);
  check_size(op, "advantages", in.advantages.size(), size);
  check_size(op, "weights", in.weights.size(), size);
  check_size(op, "dlog_probs", dlog_probs.size(), size);
  if (config.kl != KlType::kNone) check_size(op, "ref_log_probs", in.ref_log_probs.size(), size);
  if (config.entropy_coef != 0) {
    check_size(op, "entropy", in.entropy.size(), size);
    check_size(op, "dentropy", dentropy.size(), size);
  }
  check_size_or_empty(op, "entropy", in.entropy.size(), size);
  check_size_or_empty(op, "dentropy", dentropy.size(), size);
  check(config.clip_ratio_low >= 0, op, ": clip_ratio_low is ", config.clip_ratio_low,
        ", expected >= 0");
  check(config.clip_ratio_high >= 0, op, ": clip_ratio_high is ", config.clip_ratio_high,
        ", expected >= 0");
  check(config.clip_ratio_c == 0 || config.clip_ratio_c > 1, op, ": clip_ratio_c is ",
        config.clip_ratio_c, ", expected 0 or > 1");
}

}  // namespace

PolicyLossSums policy_loss(const PolicyLossConfig& config, const PolicyLossInput& input,
                           std::span<float> dlog_probs, std::span<float> dentropy) {
  check_arguments(config, input, dlog_probs, dentropy);
  std::fill(dlog_probs.begin(), dlog_probs.end(), 0.0f);
  std::fill(dentropy.begin(), dentropy.end(), 0.0f);
  PolicyLossSums sums;
  for (size_t t = 0; t < input.log_probs.size(); ++t) {
    const double weight = input.weights[t];
    if (weight == 0) continue;
    const double log_prob = input.log_probs[t], old = input.old_log_probs[t];
    const Term log_ratio = clamp({log_prob - old, 1}, kMaxLogRatio);
    const double r = exp_fixed(log_ratio.value);
    const Term ratio{r, r * log_ratio.derivative};
    const PolicyTerm policy = policy_term(config, ratio, input.advantages[t]);
    const Term kl = config.kl == KlType::kNone
                        ? Term{}
                        : kl_term(config.kl, ratio, log_prob, input.ref_log_probs[t]);
    const double entropy = input.entropy.empty() ? 0.0 : input.entropy[t];

    // An entropy that is only watched stays out of the loss even if it is infinite.
    const double entropy_part = config.entropy_coef == 0 ? 0.0 : config.entropy_coef * entropy;
    sums.loss += weight * (policy.term.value + config.kl_coef * kl.value - entropy_part);
    sums.policy += weight * policy.term.value;
    sums.kl += weight * kl.value;
    sums.entropy += weight * entropy;
    sums.ppo_kl += old - log_prob;
    sums.clipped += policy.clipped ? 1 : 0;
    sums.clipped_lower += policy.clipped_lower ? 1 : 0;
    sums.tokens += 1;
    dlog_probs[t] =
        static_cast<float>(weight * (policy.term.derivative + config.kl_coef * kl.derivative));
    if (!dentropy.empty()) dentropy[t] = static_cast<float>(-weight * config.entropy_coef);
  }
  return sums;
}

}  // namespace moerl::kernels
