#include "experiments/evaluation/metrics/intervals.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/rng.h"
#include "experiments/evaluation/metrics/estimators.h"

namespace moerl::eval {

Interval wilson95(int64_t successes, int64_t n) {
  check(n > 0 && successes >= 0 && successes <= n, "wilson: ", successes, " successes of ", n,
        " trials, expected 0 to n and n > 0");
  constexpr double kZ = 1.959963984540054;  // 97.5 % quantile of the standard normal
  const double trials = static_cast<double>(n), share = static_cast<double>(successes) / trials;
  const double scale = 1 + kZ * kZ / trials;
  const double center = (share + kZ * kZ / (2 * trials)) / scale;
  const double half =
      kZ / scale * std::sqrt(share * (1 - share) / trials + kZ * kZ / (4 * trials * trials));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

std::vector<Interval> bootstrap95(const std::vector<std::vector<double>>& statistics,
                                  const BootstrapConfig& config) {
  if (statistics.empty()) return {};
  const size_t problems = statistics[0].size();
  check(problems > 0, "bootstrap: there is no problem");
  check(config.draws > 0, "bootstrap: ", config.draws, " draws, expected at least 1");
  for (const auto& values : statistics)
    check(values.size() == problems, "bootstrap: statistics of ", values.size(), " and ", problems,
          " problems");
  const auto draws = static_cast<size_t>(config.draws);
  std::vector<std::vector<double>> means(statistics.size(), std::vector<double>(draws));
  std::vector<uint32_t> times(problems);
  for (size_t draw = 0; draw < draws; ++draw) {
    Rng rng(config.seed, draw);
    std::fill(times.begin(), times.end(), 0);
    for (size_t i = 0; i < problems; ++i) ++times[rng.below(static_cast<uint32_t>(problems))];
    for (size_t s = 0; s < statistics.size(); ++s) {
      double sum = 0;
      for (size_t i = 0; i < problems; ++i) sum += times[i] * statistics[s][i];
      means[s][draw] = sum / static_cast<double>(problems);
    }
  }
  std::vector<Interval> intervals;
  for (std::vector<double>& values : means)
    intervals.push_back({quantile(values, 0.025), quantile(values, 0.975)});
  return intervals;
}

PairedDifference paired_bootstrap(std::span<const double> a, std::span<const double> b,
                                  const BootstrapConfig& config) {
  check(a.size() == b.size(), "paired bootstrap: ", a.size(), " and ", b.size(), " problems");
  std::vector<double> differences(a.size());
  for (size_t i = 0; i < a.size(); ++i) differences[i] = b[i] - a[i];
  const Interval interval = bootstrap95({differences}, config)[0];
  return {mean(differences), interval};
}

double mcnemar_exact(int64_t only_a, int64_t only_b) {
  check(only_a >= 0 && only_b >= 0, "mcnemar: counts are ", only_a, " and ", only_b,
        ", expected none below 0");
  const int64_t n = only_a + only_b, fewer = std::min(only_a, only_b);
  // log of C(n, i) / 2^n, from i to i + 1: times (n - i) / (i + 1).
  double log_term = -static_cast<double>(n) * std::log(2.0), tail = 0;
  for (int64_t i = 0; i <= fewer; ++i) {
    tail += std::exp(log_term);
    log_term += std::log(static_cast<double>(n - i) / static_cast<double>(i + 1));
  }
  return std::min(1.0, 2 * tail);
}

}  // namespace moerl::eval
