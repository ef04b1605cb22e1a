#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/evaluation/metrics/consensus.h"
#include "experiments/evaluation/metrics/estimators.h"
#include "experiments/evaluation/metrics/intervals.h"
#include "experiments/evaluation/records/eval_record.h"

namespace moerl::eval {

/// A share in [0, 1] with its 95 % interval.
struct Estimate {
  std::string name;  ///< such as pass@1[avg-of-4], pass@4, pass^4, cons@4
  double value = 0;
  Interval interval;
  std::string method;  ///< of the interval: wilson or bootstrap
};

/// Tokens of one part of the responses.
struct LengthStatistics {
  double mean = 0, median = 0, p95 = 0;
};

/// Figures of some records of one suite.
struct Summary {
  std::string suite, group;  ///< group empty: the whole suite
  int64_t num_problems = 0, num_samples = 0;
  int64_t n = 0;  ///< samples a problem
  RunSpread spread;
  std::vector<Estimate> estimates;
  // Shares of the samples.
  double truncated = 0, no_answer = 0, unscorable = 0, language_mix = 0;
  int64_t num_unscorable = 0;
  double mean_score = 0;                 ///< of the scorable samples
  TieRule tie_rule = TieRule::kAverage;  ///< of cons@k
  LengthStatistics response, thinking, answer;
  // Per response, of its thinking (of all of it if there is none).
  double reflections = 0, backtracks = 0;

  const Estimate& accuracy() const { return estimates.front(); }
};

/// Whether the answers of two records of one problem mean the same.
using AnswerEquivalence = std::function<bool(const EvalRecord&, const EvalRecord&)>;

struct SummaryOptions {
  BootstrapConfig bootstrap;
  /// For cons@k; null: not computed.
  AnswerEquivalence equivalent;
  TieRule tie_rule = TieRule::kAverage;
};

/// The figures of one suite. Every problem must have the same number n of samples. A sample that
/// was cut off, has no answer or could not be scored counts as wrong and is counted apart.
/// pass@k and pass^k are given for the powers of two up to n, and n; cons@k uses the first k.
/// pass@1 of one sample a problem has a Wilson interval, all else the bootstrap's.
/// @param records  of one suite, in canonical order; not empty.
Summary summarize(const std::vector<EvalRecord>& records, const SummaryOptions& options);

/// Of all suites in the records, in order: first the whole suite, then its groups by name (without
/// cons@k), if it has any.
/// @param equivalence_of  of a suite by name, for cons@k; null: not computed.
std::vector<Summary> summarize_all(
    const std::vector<ProblemRecord>& problems, const std::vector<EvalRecord>& records,
    const SummaryOptions& options,
    const std::function<AnswerEquivalence(const std::string& suite)>& equivalence_of);

/// For people: a line a suite, and its further figures below.
std::string to_table(const std::vector<Summary>& summaries);

}  // namespace moerl::eval
