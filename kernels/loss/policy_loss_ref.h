#pragma once
#include <algorithm>
#include <cmath>

#include "kernels/loss/policy_loss.h"

namespace moerl::kernels::ref {

/// The loss of one token of weight 1, straight from the formulas of policy_loss.h. The plus
/// estimators have the value of their plain forms here: their gradient is not that value's.
inline double policy_loss(const PolicyLossConfig& config, double log_prob, double old_log_prob,
                          double ref_log_prob, double entropy, double advantage) {
  const double r = std::exp(std::min(20.0, std::max(-20.0, log_prob - old_log_prob)));
  const double low = 1.0 - config.clip_ratio_low, high = 1.0 + config.clip_ratio_high;
  const double clipped = r < low ? low : r > high ? high : r;
  double policy = std::max(-advantage * r, -advantage * clipped);
  if (config.clip_ratio_c > 0 && advantage < 0)
    policy = std::min(policy, -advantage * config.clip_ratio_c);

  const double x = std::min(20.0, std::max(-20.0, ref_log_prob - log_prob));
  const double k3 = std::min(10.0, std::max(-10.0, std::exp(x) - x - 1));
  double kl = 0;
  switch (config.kl) {
    case KlType::kNone:
      break;
    case KlType::kK1:
    case KlType::kK1Plus:
      kl = -x;
      break;
    case KlType::kK2:
      kl = x * x / 2;
      break;
    case KlType::kK3:
    case KlType::kK3Plus:
      kl = k3;
      break;
    case KlType::kK3Unbiased:
      kl = r * k3;
      break;
  }
  return policy + config.kl_coef * kl - config.entropy_coef * entropy;
}

}  // namespace moerl::kernels::ref
