#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace moerl::eval {

/// A confidence interval.
struct Interval {
  double low = 0, high = 0;
};

/// Wilson's 95 % score interval of a share of independent trials; for one sample a problem.
/// Source: Wilson 1927, JASA 22(158). @throws std::invalid_argument unless 0 <= successes <= n > 0.
Interval wilson95(int64_t successes, int64_t n);

struct BootstrapConfig {
  int64_t draws = 10'000;
  uint64_t seed = 0;
};

/// 95 % percentile intervals of the means of several per-problem statistics, all from the same
/// draws. Problems are drawn with replacement, each with all its samples (a cluster bootstrap),
/// because the samples of one problem are not independent. Source: Efron and Tibshirani 1993,
/// chapters 6 and 13. A pure function of its arguments.
/// @param statistics  [statistics][problems], of one length.
/// @throws std::invalid_argument if there is no problem or the lengths differ.
std::vector<Interval> bootstrap95(const std::vector<std::vector<double>>& statistics,
                                  const BootstrapConfig& config = {});

/// Of two models on the same problems.
struct PairedDifference {
  double difference = 0;  ///< mean of b - a
  Interval interval;      ///< 95 %, of the difference
};

/// Paired bootstrap: a problem is drawn with both models' values.
/// @param a, b  per-problem accuracies, in the same order. @throws as bootstrap95.
PairedDifference paired_bootstrap(std::span<const double> a, std::span<const double> b,
                                  const BootstrapConfig& config = {});

/// McNemar's exact two-sided test: the p-value of seeing a split as uneven as (only_a, only_b)
/// among the problems that exactly one of two models solves, if both are equally good:
/// min(1, 2 P[Binomial(only_a + only_b, 1/2) <= min(only_a, only_b)]).
/// @throws std::invalid_argument if a count is negative.
double mcnemar_exact(int64_t only_a, int64_t only_b);

}  // namespace moerl::eval
