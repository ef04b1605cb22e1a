#pragma once
#include <map>
#include <string>
#include <vector>

#include "experiments/generation.h"
#include "experiments/sample_store.h"

namespace moerl {

/// Seconds and tokens of one step.
struct StepTimes {
  GenerationTimes generation;
  double update_s = 0;
  int64_t generated_tokens = 0;
  int64_t rounds = 0;  ///< generation rounds: 1, plus refills
};

/// Means over the completions of one step, in verl's names.
class BatchStatistics {
 public:
  /// @param rewards  of the group's completions, NaN where unscorable.
  void add(const ScoredGroup& group, const std::vector<double>& rewards,
           int64_t max_response_length);
  void add_advantage(double advantage);

  /// @param dropped  groups among the added ones that were dropped.
  std::map<std::string, double> metrics(int64_t dropped) const;

 private:
  /// Mean, largest and smallest of a series.
  struct Series {
    double sum = 0, n = 0, max = 0, min = 0;
    void add(double x);
    void write(const std::string& name, std::map<std::string, double>& out) const;
  };
  Series rewards_, advantages_, response_length_, prompt_length_, accuracy_;
  std::map<std::string, Series> parts_;
  double truncated_ = 0, completions_ = 0, timeouts_ = 0, unscorable_ = 0, no_answer_ = 0;
  double reward_std_sum_ = 0, groups_ = 0, zero_variance_groups_ = 0;
};

int64_t count_tokens(const ScoredGroup& group);
void add_timing(const StepTimes& times, std::map<std::string, double>& metrics);
/// What the progress line shows of a step.
std::string headline(const std::map<std::string, double>& metrics);
SampleRecord to_record(const ScoredGroup& group, size_t index, int64_t step,
                       const std::string& stage, const std::string& split, double reward,
                       double advantage, bool in_loss);

}  // namespace moerl
