#pragma once
#include <string>
#include <vector>

#include "experiments/evaluation/metrics/intervals.h"
#include "experiments/evaluation/records/eval_directory.h"

namespace moerl::eval {

/// A problem that one model solves and the other does not.
struct FlippedProblem {
  int64_t problem = 0;
  std::string id;
  double a = 0, b = 0;  ///< share of correct samples
};

/// Two models on the same problems of one suite.
struct SuiteComparison {
  std::string suite;
  int64_t num_problems = 0;        ///< that both have
  double a = 0, b = 0;             ///< pass@1 over them
  PairedDifference paired;         ///< b - a
  int64_t only_a = 0, only_b = 0;  ///< problems solved by one only: at least half of its samples
  double mcnemar_p = 1;
  std::vector<FlippedProblem> gained, lost;  ///< by b
};

/// Compares suite by suite the problems that both evaluations have: same id and ground truth (the
/// prompt may differ, as models have templates of their own).
/// @throws ConfigError if they share no problem.
std::vector<SuiteComparison> compare(const EvalFiles& a, const EvalFiles& b,
                                     const BootstrapConfig& config = {});

/// For people. @param max_flips  flipped problems to list of each kind.
std::string to_table(const std::vector<SuiteComparison>& comparisons, const std::string& name_a,
                     const std::string& name_b, int64_t max_flips);
/// comparison.json.
std::string to_json(const std::vector<SuiteComparison>& comparisons);

}  // namespace moerl::eval
