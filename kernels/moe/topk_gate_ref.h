#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace moerl::kernels::ref {

/// The gate's configuration, as in GateConfig.
struct Gate {
  size_t experts, topk, groups = 1, topk_groups = 1;
  bool normalise = true;
  double factor = 1;
  bool softmax = false, worth_is_max = false;
};
struct GateOutput {
  std::vector<double> scores, weights;
  std::vector<size_t> index;
};

/// Indices of x by descending value, equal values by ascending index.
inline std::vector<size_t> descending(const std::vector<double>& x) {
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  return order;
}

/// One row of the gate (DeepSeek-V3 report, eq. 12-16; group limit as in its inference code;
/// softmax and groups worth their best: DeepSeek-V2 report, section 2.2).
inline GateOutput topk_gate(const Gate& gate, const std::vector<double>& logits,
                            const std::vector<double>& bias) {
  GateOutput out;
  std::vector<double> biased;
  double all = 0;
  for (double l : logits) all += std::exp(l);
  for (size_t e = 0; e < gate.experts; ++e) {
    out.scores.push_back(gate.softmax ? std::exp(logits[e]) / all : 1 / (1 + std::exp(-logits[e])));
    biased.push_back(out.scores[e] + bias[e]);
  }
  const size_t size = gate.experts / gate.groups;
  std::vector<double> worth;
  for (size_t g = 0; g < gate.groups; ++g) {
    std::vector<double> members(biased.begin() + static_cast<std::ptrdiff_t>(g * size),
                                biased.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    std::sort(members.rbegin(), members.rend());
    worth.push_back(size == 1 || gate.worth_is_max ? members[0] : members[0] + members[1]);
  }
  const std::vector<size_t> groups = descending(worth);
  for (size_t i = gate.topk_groups; i < gate.groups; ++i)
    for (size_t e = groups[i] * size; e < (groups[i] + 1) * size; ++e)
      biased[e] = -std::numeric_limits<double>::infinity();
  out.index = descending(biased);
  out.index.resize(gate.topk);
  double sum = 1e-20;
  for (size_t e : out.index) sum += out.scores[e];
  for (size_t e : out.index)
    out.weights.push_back(gate.factor * out.scores[e] / (gate.normalise ? sum : 1));
  return out;
}

/// dlogits of one row for a fixed choice, by the quotient and chain rules.
inline std::vector<double> topk_gate_backward(const Gate& gate, const std::vector<double>& scores,
                                              const std::vector<size_t>& index,
                                              const std::vector<double>& dweights,
                                              const std::vector<double>& extra_dscores) {
  double sum = 1e-20, product = 0;
  for (size_t k = 0; k < index.size(); ++k) {
    sum += scores[index[k]];
    product += dweights[k] * scores[index[k]];
  }
  std::vector<double> dscores = extra_dscores;
  for (size_t k = 0; k < index.size(); ++k)
    dscores[index[k]] +=
        gate.factor * (gate.normalise ? dweights[k] / sum - product / (sum * sum) : dweights[k]);
  const double mean = std::inner_product(scores.begin(), scores.end(), dscores.begin(), 0.0);
  for (size_t e = 0; e < gate.experts; ++e)
    dscores[e] = scores[e] * (gate.softmax ? dscores[e] - mean : dscores[e] * (1 - scores[e]));
  return dscores;
}

/// The balance loss of one sequence (DeepSeek-V3 report, eq. 17-20): scores [n][E], the chosen
/// experts of each token, and f (eq. 18) counted from them.
inline double sequence_balance_loss(const std::vector<std::vector<double>>& scores,
                                    const std::vector<std::vector<size_t>>& index, double alpha) {
  const auto n = static_cast<double>(scores.size());
  const size_t experts = scores[0].size();
  double loss = 0;
  for (size_t e = 0; e < experts; ++e) {
    double count = 0, mean_share = 0;
    for (size_t t = 0; t < scores.size(); ++t) {
      count += static_cast<double>(std::count(index[t].begin(), index[t].end(), e));
      mean_share += scores[t][e] / std::accumulate(scores[t].begin(), scores[t].end(), 0.0) / n;
    }
    const double f =
        static_cast<double>(experts) / (static_cast<double>(index[0].size()) * n) * count;
    loss += alpha * f * mean_share;
  }
  return loss;
}

}  // namespace moerl::kernels::ref
