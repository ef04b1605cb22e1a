#include "experiments/evaluation/evaluator.h"

#include "common/check.h"

namespace moerl {

std::map<std::string, double> validation_metrics(const std::vector<ScoredGroup>& groups) {
  struct Sums {
    double problems = 0, mean = 0, best = 0, samples = 0, tokens = 0, truncated = 0, no_answer = 0,
           unscorable = 0;
    size_t n = 0;
  };
  std::map<std::string, Sums> by_source;
  for (const ScoredGroup& group : groups) {
    Sums& s = by_source[group.prompt.row->data_source];
    s.n = group.completions.size();
    double correct = 0;
    for (const ScoredCompletion& c : group.completions) {
      correct += c.verdict.status == reward::VerdictStatus::kCorrect;
      s.no_answer += c.verdict.status == reward::VerdictStatus::kNoAnswer;
      s.unscorable += reward::is_unscorable(c.verdict);
      s.truncated += c.completion.finish_reason == FinishReason::kLength;
      s.tokens += static_cast<double>(c.completion.token_ids.size());
      s.samples += 1;
    }
    s.problems += 1;
    s.mean += correct / static_cast<double>(s.n);
    s.best += correct > 0 ? 1 : 0;
  }
  std::map<std::string, double> metrics;
  for (const auto& [source, s] : by_source) {
    const std::string core = "val-core/" + source + "/acc/", aux = "val-aux/" + source + "/";
    metrics[core + concat("mean@", s.n)] = s.mean / s.problems;
    if (s.n > 1) metrics[core + concat("best@", s.n)] = s.best / s.problems;
    metrics[aux + "response_length/mean"] = s.tokens / s.samples;
    metrics[aux + "response_length/clip_ratio"] = s.truncated / s.samples;
    metrics[aux + "no_answer_ratio"] = s.no_answer / s.samples;
    metrics[aux + "unscorable_ratio"] = s.unscorable / s.samples;
  }
  return metrics;
}

}  // namespace moerl
