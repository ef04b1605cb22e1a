#include "experiments/evaluation/compare.h"

#include <cstdio>
#include <map>

#include "common/check.h"
#include "common/json.h"
#include "experiments/evaluation/metrics/estimators.h"

namespace moerl::eval {
namespace {

struct Tally {
  std::string truth;
  int64_t problem = 0, correct = 0, samples = 0;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(samples); }
  bool is_solved() const { return 2 * correct >= samples; }
};
/// By suite, in order of appearance, then by id.
struct Tallies {
  std::vector<std::string> suites;
  std::map<std::pair<std::string, std::string>, Tally> problems;
};

Tallies tally(const EvalFiles& files) {
  Tallies tallies;
  for (const ProblemRecord& p : files.problems) {
    if (tallies.suites.empty() || tallies.suites.back() != p.suite)
      tallies.suites.push_back(p.suite);
    tallies.problems[{p.suite, p.id}] = {p.ground_truth, p.problem};
  }
  for (const EvalRecord& r : files.records) {
    Tally& t = tallies.problems[{r.suite, r.id}];
    t.correct += r.is_correct();
    ++t.samples;
  }
  return tallies;
}

SuiteComparison compare_suite(const std::string& suite, const Tallies& a, const Tallies& b,
                              const BootstrapConfig& config) {
  SuiteComparison result;
  result.suite = suite;
  std::map<int64_t, std::pair<const Tally*, const Tally*>> shared;
  std::map<int64_t, std::string> ids;
  for (const auto& [key, of_a] : a.problems) {
    if (key.first != suite) continue;
    const auto of_b = b.problems.find(key);
    if (of_b == b.problems.end() || of_b->second.truth != of_a.truth) continue;
    shared[of_a.problem] = {&of_a, &of_b->second};
    ids[of_a.problem] = key.second;
  }
  if (shared.empty()) return result;
  std::vector<double> accuracy_a, accuracy_b;
  for (const auto& [problem, pair] : shared) {
    const auto [of_a, of_b] = pair;
    accuracy_a.push_back(of_a->accuracy());
    accuracy_b.push_back(of_b->accuracy());
    if (of_a->is_solved() == of_b->is_solved()) continue;
    auto& flips = of_b->is_solved() ? result.gained : result.lost;
    flips.push_back({problem, ids[problem], of_a->accuracy(), of_b->accuracy()});
  }
  result.num_problems = static_cast<int64_t>(shared.size());
  result.a = mean(accuracy_a);
  result.b = mean(accuracy_b);
  result.paired = paired_bootstrap(accuracy_a, accuracy_b, config);
  result.only_a = static_cast<int64_t>(result.lost.size());
  result.only_b = static_cast<int64_t>(result.gained.size());
  result.mcnemar_p = mcnemar_exact(result.only_a, result.only_b);
  return result;
}

std::string flips_text(const char* what, const std::vector<FlippedProblem>& flips, int64_t limit) {
  std::string text = concat("  ", what, ": ", flips.size());
  int64_t shown = 0;
  for (const FlippedProblem& f : flips) {
    if (shown++ == limit) return text + ", …\n";
    char part[64];
    std::snprintf(part, sizeof part, " (%.0f %% -> %.0f %%)", 100 * f.a, 100 * f.b);
    text += concat(shown == 1 ? ": " : ", ", f.id, part);
  }
  return text + "\n";
}

}  // namespace

std::vector<SuiteComparison> compare(const EvalFiles& a, const EvalFiles& b,
                                     const BootstrapConfig& config) {
  const Tallies of_a = tally(a), of_b = tally(b);
  std::vector<SuiteComparison> result;
  for (const std::string& suite : of_a.suites) {
    SuiteComparison comparison = compare_suite(suite, of_a, of_b, config);
    if (comparison.num_problems > 0) result.push_back(std::move(comparison));
  }
  if (result.empty()) throw ConfigError("the two evaluations have no problem in common");
  return result;
}

std::string to_table(const std::vector<SuiteComparison>& comparisons, const std::string& name_a,
                     const std::string& name_b, int64_t max_flips) {
  std::string text = concat("A = ", name_a, "\nB = ", name_b, "\n");
  for (const SuiteComparison& c : comparisons) {
    char line[320];
    std::snprintf(line, sizeof line,
                  "%s, %ld problems: A %.1f %%, B %.1f %%, B - A %+.1f points, 95 %% [%+.1f, "
                  "%+.1f] (paired bootstrap); McNemar p = %.3g (%ld solved by A only, %ld by B "
                  "only)\n",
                  c.suite.c_str(), static_cast<long>(c.num_problems), 100 * c.a, 100 * c.b,
                  100 * c.paired.difference, 100 * c.paired.interval.low,
                  100 * c.paired.interval.high, c.mcnemar_p, static_cast<long>(c.only_a),
                  static_cast<long>(c.only_b));
    text += line;
    text += flips_text("solved by B only", c.gained, max_flips);
    text += flips_text("solved by A only", c.lost, max_flips);
  }
  return text;
}

std::string to_json(const std::vector<SuiteComparison>& comparisons) {
  using Json = nlohmann::ordered_json;
  Json json = Json::array();
  const auto flips = [](const std::vector<FlippedProblem>& problems) {
    Json list = Json::array();
    for (const FlippedProblem& f : problems)
      list.push_back({{"problem", f.problem}, {"id", f.id}, {"a", f.a}, {"b", f.b}});
    return list;
  };
  for (const SuiteComparison& c : comparisons)
    json.push_back({{"suite", c.suite},
                    {"num_problems", c.num_problems},
                    {"a", c.a},
                    {"b", c.b},
                    {"difference", c.paired.difference},
                    {"low", c.paired.interval.low},
                    {"high", c.paired.interval.high},
                    {"only_a", c.only_a},
                    {"only_b", c.only_b},
                    {"mcnemar_p", c.mcnemar_p},
                    {"gained", flips(c.gained)},
                    {"lost", flips(c.lost)}});
  return json.dump(2) + "\n";
}

}  // namespace moerl::eval
