#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace moerl::kernels::ref {

struct TokenLogProb {
  double log_prob = 0, entropy = 0, lse = 0;
};

/// One row: log softmax at the target and the entropy, -sum p log p, of logits / temperature.
inline TokenLogProb token_log_prob(const std::vector<double>& logits, double temperature,
                                   size_t target) {
  const double top = *std::max_element(logits.begin(), logits.end()) / temperature;
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit / temperature - top);
  TokenLogProb out;
  out.lse = top + std::log(sum);
  out.log_prob = logits[target] / temperature - out.lse;
  for (double logit : logits) {
    const double log_p = logit / temperature - out.lse;
    if (std::exp(log_p) > 0) out.entropy -= std::exp(log_p) * log_p;
  }
  return out;
}

/// d(dlog_prob * log_prob + dentropy * entropy) / d(logits).
/// From dp_w/dz_v = p_w ([w = v] - p_v): dH/dz_v = -p_v (log p_v + H).
inline std::vector<double> token_log_prob_backward(const std::vector<double>& logits,
                                                   double temperature, size_t target,
                                                   double dlog_prob, double dentropy) {
  const TokenLogProb row = token_log_prob(logits, temperature, target);
  std::vector<double> dlogits(logits.size());
  for (size_t v = 0; v < logits.size(); ++v) {
    const double log_p = logits[v] / temperature - row.lse, p = std::exp(log_p);
    dlogits[v] = dlog_prob * ((v == target ? 1.0 : 0.0) - p) / temperature;
    if (p > 0) dlogits[v] -= dentropy * p * (log_p + row.entropy) / temperature;
  }
  return dlogits;
}

}  // namespace moerl::kernels::ref
