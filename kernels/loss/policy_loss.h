#pragma once
#include <span>

namespace moerl::kernels {

/// The estimator of KL(policy || reference) at the sampled token. k1, k2, k3: Schulman,
/// "Approximating KL divergence". A plus means: the value of the estimator, the gradient of k2
/// (whose expectation is the gradient of the KL).
enum class KlType { kNone, kK1, kK2, kK3, kK3Unbiased, kK1Plus, kK3Plus };

/// Per-token clipped policy loss (to minimise), with l = log_prob, r = exp(clamp(l - old, +-20)):
///
///   policy = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high));
///   dual clip (clip_ratio_c > 0), A < 0: policy = min(policy, -A clip_ratio_c)
///   kl with x = clamp(ref - l, +-20): k1 = -x, k2 = x^2 / 2, k3 = e^x - x - 1 (clamped to +-10),
///   unbiased k3 = r k3 (gradient through r)
///   loss = weight * (policy + kl_coef * kl - entropy_coef * H)
///
/// Where a clip or a clamp is active its derivative is 0; at its border it is not.
/// Sources: Shao et al. 2024 (arXiv:2402.03300), DAPO (arXiv:2503.14476), dual clip
/// (arXiv:1912.09729), DeepSeek-V3.2 for the unbiased k3. Advantages, old and reference log-probs
/// are constants.
struct PolicyLossConfig {
  float clip_ratio_low = 0.2f, clip_ratio_high = 0.2f;
  float clip_ratio_c = 0;  ///< > 1, or 0 for none
  KlType kl = KlType::kNone;
  float kl_coef = 0;
  float entropy_coef = 0;
};

/// Spans of one length T; a token with weight 0 is out of the loss and never looked at.
/// ref_log_probs may be empty without KL, entropy without entropy_coef (if given, it is still
/// summed).
struct PolicyLossInput {
  std::span<const float> log_probs, old_log_probs, ref_log_probs, entropy, advantages, weights;
};

/// Sums over tokens in fp64, in token order.
struct PolicyLossSums {
  double loss = 0;                         ///< sum of weight * (...)
  double policy = 0, kl = 0, entropy = 0;  ///< sums of weight * each part, without coefficients
  double ppo_kl = 0;                       ///< sum of (old - l) over tokens in the loss
  double clipped = 0,
         clipped_lower = 0;  ///< tokens whose gradient the clip / the dual clip removed
  double tokens = 0;         ///< tokens with a weight other than 0

  constexpr void add(const PolicyLossSums& part) {
    loss += part.loss;
    policy += part.policy;
    kl += part.kl;
    entropy += part.entropy;
    ppo_kl += part.ppo_kl;
    clipped += part.clipped;
    clipped_lower += part.clipped_lower;
    tokens += part.tokens;
  }
};

/// Arithmetic in fp64, each gradient rounded once; the same bits on every machine.
/// @param dlog_probs out [T]: d(sum loss)/d(log_prob). @param dentropy out [T] or, only where
/// entropy_coef is 0, empty.
/// @throws std::invalid_argument if a length disagrees or a coefficient is out of range.
PolicyLossSums policy_loss(const PolicyLossConfig& config, const PolicyLossInput& input,
                           std::span<float> dlog_probs, std::span<float> dentropy);

}  // namespace moerl::kernels
