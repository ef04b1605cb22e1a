#include "experiments/evaluation/metrics/estimators.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"

namespace moerl::eval {
namespace {

void check_counts(const char* what, int64_t n, int64_t c, int64_t k) {
  check(c >= 0 && c <= n, what, ": ", c, " of ", n, " samples are correct, expected 0 to n");
  check(k >= 1, what, ": k is ", k, ", expected at least 1");
}

/// Of a sample: n - 1 in the denominator.
double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double center = mean(values);
  double squares = 0;
  for (double x : values) squares += (x - center) * (x - center);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace

std::optional<double> pass_at_k(int64_t n, int64_t c, int64_t k) {
  check_counts("pass@k", n, c, k);
  if (n < k) return std::nullopt;
  if (n - c < k) return 1.0;
  double none_correct = 1;
  for (int64_t j = n - c + 1; j <= n; ++j)
    none_correct *= 1.0 - static_cast<double>(k) / static_cast<double>(j);
  return 1.0 - none_correct;
}

std::optional<double> all_at_k(int64_t n, int64_t c, int64_t k) {
  check_counts("pass^k", n, c, k);
  if (n < k) return std::nullopt;
  double all_correct = 1;
  for (int64_t j = 0; j < k; ++j)
    all_correct *= static_cast<double>(std::max<int64_t>(c - j, 0)) / static_cast<double>(n - j);
  return all_correct;
}

RunSpread run_spread(const std::vector<std::vector<double>>& scores, int64_t k) {
  check(!scores.empty(), "pass@1[avg-of-k]: there is no problem");
  check(k >= 1, "pass@1[avg-of-k]: k is ", k, ", expected at least 1");
  std::vector<double> runs(static_cast<size_t>(k)), means, deviations;
  for (const std::vector<double>& problem : scores) {
    check(static_cast<int64_t>(problem.size()) >= k, "pass@1[avg-of-", k, "]: a problem has ",
          problem.size(), " samples");
    const std::span<const double> first(problem.data(), static_cast<size_t>(k));
    for (size_t j = 0; j < first.size(); ++j) runs[j] += first[j];
    means.push_back(mean(first));
    deviations.push_back(standard_deviation(first));
  }
  for (double& run : runs) run /= static_cast<double>(scores.size());
  RunSpread spread;
  spread.mean = mean(means);
  spread.std_across_runs = standard_deviation(runs);
  spread.std_err = spread.std_across_runs / std::sqrt(static_cast<double>(k));
  spread.mean_sample_std = mean(deviations);
  return spread;
}

double mean(std::span<const double> values) {
  check(!values.empty(), "mean of no values");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double quantile(std::vector<double> values, double q) {
  check(!values.empty(), "quantile of no values");
  check(q >= 0 && q <= 1, "quantile: q is ", q, ", expected 0 to 1");
  const double position = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(position);
  const auto begin = values.begin();
  std::nth_element(begin, begin + static_cast<ptrdiff_t>(low), values.end());
  const double below = values[low];
  if (low + 1 == values.size()) return below;
  const double above = *std::min_element(begin + static_cast<ptrdiff_t>(low) + 1, values.end());
  return below + (position - static_cast<double>(low)) * (above - below);
}

}  // namespace moerl::eval
