#include "kernels/loss/policy_loss.h"

#include <algorithm>

#include "kernels/check_tensor.h"
#include "kernels/loss/policy_loss_impl.h"

namespace moerl::kernels {
namespace {

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
    if (input.weights[t] == 0) continue;
    const PolicyLossToken token{input.log_probs[t],
                                input.old_log_probs[t],
                                config.kl == KlType::kNone ? 0.0f : input.ref_log_probs[t],
                                input.entropy.empty() ? 0.0f : input.entropy[t],
                                input.advantages[t],
                                input.weights[t]};
    const PolicyLossTerms terms = policy_loss_terms(config, token);
    sums.add(terms.sums);
    dlog_probs[t] = terms.dlog_prob;
    if (!dentropy.empty()) dentropy[t] = terms.dentropy;
  }
  return sums;
}

}  // namespace moerl::kernels
