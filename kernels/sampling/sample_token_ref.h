#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace moerl::kernels::ref {

struct SampleSettings {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
};

/// The distribution that sample_token draws from: softmax of logits / temperature, narrowed by
/// top-k, then top-p, then min-p, and normalised again.
inline std::vector<double> sampling_distribution(const std::vector<double>& logits,
                                                 const SampleSettings& settings) {
  const size_t size = logits.size();
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weights;  // likeliest first
  for (size_t v : order)
    weights.push_back(std::exp((logits[v] - logits[order[0]]) / settings.temperature));

  size_t kept = size;
  if (settings.top_k > 0) kept = std::min(kept, static_cast<size_t>(settings.top_k));
  if (settings.top_p < 1) {
    const double total =
        std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
    double reached = 0;
    for (size_t i = 0; i < kept; ++i) {
      reached += weights[i];
      if (reached >= settings.top_p * total) kept = i + 1;
    }
  }
  while (weights[kept - 1] < settings.min_p) --kept;

  const double total =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  std::vector<double> distribution(size);
  for (size_t i = 0; i < kept; ++i) distribution[order[i]] = weights[i] / total;
  return distribution;
}

}  // namespace moerl::kernels::ref
