#include "experiments/evaluation/summary.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <span>

#include "common/check.h"
#include "experiments/evaluation/metrics/text_statistics.h"

namespace moerl::eval {
namespace {

/// All samples of one problem.
using Samples = std::span<const EvalRecord>;

std::vector<Samples> by_problem(const std::vector<EvalRecord>& records) {
  std::vector<Samples> problems;
  for (size_t begin = 0; begin < records.size();) {
    size_t end = begin;
    while (end < records.size() && records[end].problem == records[begin].problem) ++end;
    problems.emplace_back(records.data() + begin, end - begin);
    check(problems.back().size() == problems[0].size(), records[begin].suite, " problem ",
          records[begin].problem, " has ", end - begin, " samples, the first has ",
          problems[0].size());
    begin = end;
  }
  return problems;
}

std::vector<int64_t> reported_k(int64_t n) {
  std::vector<int64_t> ks;
  for (int64_t k = 2; k < n; k *= 2) ks.push_back(k);
  if (n > 1) ks.push_back(n);
  return ks;
}

LengthStatistics length_statistics(const std::vector<double>& lengths) {
  return {mean(lengths), quantile(lengths, 0.5), quantile(lengths, 0.95)};
}

double consensus_of(Samples samples, const SummaryOptions& options) {
  std::vector<std::optional<Vote>> votes;
  for (const EvalRecord& r : samples) {
    const bool is_valid =
        !r.extracted.empty() && (r.is_correct() || r.status == reward::VerdictStatus::kIncorrect);
    votes.push_back(is_valid ? std::optional<Vote>({r.extracted, r.is_correct()}) : std::nullopt);
  }
  return consensus(
      votes, [&](size_t i, size_t j) { return options.equivalent(samples[i], samples[j]); },
      options.tie_rule);
}

/// Per-problem statistics that are averaged over problems, by name.
class Statistics {
 public:
  void add(const std::string& name, double value) {
    auto [found, is_new] = index_.emplace(name, names_.size());
    if (is_new) {
      names_.push_back(name);
      values_.emplace_back();
    }
    values_[found->second].push_back(value);
  }
  std::vector<Estimate> estimates(const BootstrapConfig& config) const {
    const std::vector<Interval> intervals = bootstrap95(values_, config);
    std::vector<Estimate> result;
    for (size_t i = 0; i < names_.size(); ++i)
      result.push_back({names_[i], mean(values_[i]), intervals[i], "bootstrap"});
    return result;
  }

 private:
  std::map<std::string, size_t> index_;
  std::vector<std::string> names_;
  std::vector<std::vector<double>> values_;
};

void add_shares_and_lengths(const std::vector<EvalRecord>& records, Summary& summary) {
  std::vector<double> response, thinking, answer;
  int64_t scorable = 0;
  for (const EvalRecord& r : records) {
    response.push_back(static_cast<double>(r.response_tokens));
    thinking.push_back(static_cast<double>(r.thinking_tokens));
    answer.push_back(static_cast<double>(r.response_tokens - r.thinking_tokens));
    summary.truncated += r.is_truncated();
    summary.no_answer += r.status == reward::VerdictStatus::kNoAnswer;
    if (reward::is_unscorable(r.status)) {
      ++summary.num_unscorable;
    } else {
      ++scorable;
      summary.mean_score += r.score;
    }
    const SplitResponse split = split_response(r.response, r.thinking_tokens > 0);
    const std::string_view text = split.thinking.empty() ? split.answer : split.thinking;
    const ReflectionCounts counts = count_reflections(text);
    summary.reflections += static_cast<double>(counts.reflections);
    summary.backtracks += static_cast<double>(counts.backtracks);
    summary.language_mix += minority_script_share(text) > kLanguageMixThreshold;
  }
  const double samples = static_cast<double>(records.size());
  for (double* share : {&summary.truncated, &summary.no_answer, &summary.language_mix,
                        &summary.reflections, &summary.backtracks})
    *share /= samples;
  summary.unscorable = static_cast<double>(summary.num_unscorable) / samples;
  if (scorable > 0) summary.mean_score /= static_cast<double>(scorable);
  summary.response = length_statistics(response);
  summary.thinking = length_statistics(thinking);
  summary.answer = length_statistics(answer);
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", 100 * share);
  return text;
}

std::string percent(const Estimate& e) {
  return percent(e.value) + " [" + percent(e.interval.low) + ", " + percent(e.interval.high) + "]";
}

}  // namespace

Summary summarize(const std::vector<EvalRecord>& records, const SummaryOptions& options) {
  check(!records.empty(), "a summary of no records");
  const std::vector<Samples> problems = by_problem(records);
  Summary summary;
  summary.suite = records[0].suite;
  summary.num_problems = static_cast<int64_t>(problems.size());
  summary.num_samples = static_cast<int64_t>(records.size());
  summary.n = static_cast<int64_t>(problems[0].size());
  summary.tie_rule = options.tie_rule;

  std::vector<std::vector<double>> scores;
  Statistics statistics;
  int64_t correct_in_all = 0;
  const std::string accuracy = concat("pass@1[avg-of-", summary.n, "]");
  for (const Samples& samples : problems) {
    std::vector<double>& row = scores.emplace_back();
    int64_t correct = 0;
    for (const EvalRecord& r : samples) {
      row.push_back(r.is_correct() ? 1 : 0);
      correct += r.is_correct();
    }
    correct_in_all += correct;
    statistics.add(accuracy, mean(row));
    for (int64_t k : reported_k(summary.n))
      statistics.add(concat("pass@", k), pass_at_k(summary.n, correct, k).value());
    for (int64_t k : reported_k(summary.n))
      statistics.add(concat("pass^", k), all_at_k(summary.n, correct, k).value());
    if (!options.equivalent) continue;
    for (int64_t k : reported_k(summary.n))
      statistics.add(concat("cons@", k),
                     consensus_of(samples.first(static_cast<size_t>(k)), options));
  }
  summary.spread = run_spread(scores, summary.n);
  summary.estimates = statistics.estimates(options.bootstrap);
  if (summary.n == 1) {
    summary.estimates[0].interval = wilson95(correct_in_all, summary.num_problems);
    summary.estimates[0].method = "wilson";
  }
  add_shares_and_lengths(records, summary);
  return summary;
}

std::vector<Summary> summarize_all(
    const std::vector<ProblemRecord>& problems, const std::vector<EvalRecord>& records,
    const SummaryOptions& options,
    const std::function<AnswerEquivalence(const std::string& suite)>& equivalence_of) {
  std::map<std::pair<std::string, int64_t>, std::string> groups;
  for (const ProblemRecord& p : problems) groups[{p.suite, p.problem}] = p.group;
  std::vector<Summary> summaries;
  for (size_t begin = 0; begin < records.size();) {
    size_t end = begin;
    while (end < records.size() && records[end].suite == records[begin].suite) ++end;
    const std::vector<EvalRecord> suite(records.begin() + static_cast<ptrdiff_t>(begin),
                                        records.begin() + static_cast<ptrdiff_t>(end));
    begin = end;
    SummaryOptions of_suite = options;
    if (equivalence_of) of_suite.equivalent = equivalence_of(suite[0].suite);
    summaries.push_back(summarize(suite, of_suite));
    std::map<std::string, std::vector<EvalRecord>> parts;
    for (const EvalRecord& r : suite) parts[groups[{r.suite, r.problem}]].push_back(r);
    if (parts.size() == 1 && parts.begin()->first.empty()) continue;
    of_suite.equivalent = nullptr;
    for (const auto& [group, part] : parts) {
      summaries.push_back(summarize(part, of_suite));
      summaries.back().group = group;
    }
  }
  return summaries;
}

std::string to_table(const std::vector<Summary>& summaries) {
  std::string text;
  char line[512];
  std::snprintf(line, sizeof line, "%-24s %8s %4s  %-22s %9s %9s %10s %9s %9s\n", "suite",
                "problems", "n", "pass@1, 95 %", "cut off", "no answer", "unscorable", "thinking",
                "answer");
  text += line;
  for (const Summary& s : summaries) {
    const std::string name = s.group.empty() ? s.suite : "  " + s.group;
    std::snprintf(line, sizeof line, "%-24s %8ld %4ld  %-22s %7s %% %7s %% %8s %% %9.0f %9.0f\n",
                  name.c_str(), static_cast<long>(s.num_problems), static_cast<long>(s.n),
                  percent(s.accuracy()).c_str(), percent(s.truncated).c_str(),
                  percent(s.no_answer).c_str(), percent(s.unscorable).c_str(), s.thinking.mean,
                  s.answer.mean);
    text += line;
    if (!s.group.empty() || s.n == 1) continue;
    std::string more;
    for (size_t i = 1; i < s.estimates.size(); ++i)
      more += concat(more.empty() ? "" : "   ", s.estimates[i].name, " ", percent(s.estimates[i]));
    text += concat("    ", more, "   std across runs ", percent(s.spread.std_across_runs),
                   ", std err ", percent(s.spread.std_err), "\n");
  }
  return text + "Shares in percent; thinking and answer: mean tokens of a response.\n";
}

}  // namespace moerl::eval
