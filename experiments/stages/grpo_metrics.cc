#include "experiments/stages/grpo_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "policy/grpo/group_advantage.h"

namespace moerl {

void BatchStatistics::Series::add(double x) {
  max = n == 0 ? x : std::max(max, x);
  min = n == 0 ? x : std::min(min, x);
  sum += x;
  n += 1;
}

void BatchStatistics::Series::write(const std::string& name,
                                    std::map<std::string, double>& out) const {
  if (n == 0) return;
  out[name + "/mean"] = sum / n;
  out[name + "/max"] = max;
  out[name + "/min"] = min;
}

void BatchStatistics::add(const ScoredGroup& group, const std::vector<double>& rewards,
                          int64_t max_response_length) {
  double sum = 0, n = 0;
  for (size_t i = 0; i < rewards.size(); ++i) {
    const ScoredCompletion& c = group.completions[i];
    const auto length = static_cast<int64_t>(c.completion.token_ids.size());
    completions_ += 1;
    response_length_.add(static_cast<double>(length));
    truncated_ +=
        c.completion.finish_reason == FinishReason::kLength && length >= max_response_length;
    timeouts_ += c.verdict.status == reward::VerdictStatus::kTimeout;
    no_answer_ += c.verdict.status == reward::VerdictStatus::kNoAnswer;
    if (std::isnan(rewards[i])) {
      unscorable_ += 1;
      continue;
    }
    accuracy_.add(c.verdict.status == reward::VerdictStatus::kCorrect ? 1 : 0);
    rewards_.add(rewards[i]);
    for (const auto& [name, value] : c.verdict.parts) parts_[name].add(value);
    sum += rewards[i];
    n += 1;
  }
  prompt_length_.add(static_cast<double>(group.prompt.token_ids.size()));
  groups_ += 1;
  zero_variance_groups_ += has_zero_variance(rewards) ? 1 : 0;
  if (n < 2) return;
  double squares = 0;
  for (double r : rewards) squares += std::isnan(r) ? 0 : (r - sum / n) * (r - sum / n);
  reward_std_sum_ += std::sqrt(squares / (n - 1));
}

void BatchStatistics::add_advantage(double advantage) { advantages_.add(advantage); }

std::map<std::string, double> BatchStatistics::metrics(int64_t dropped) const {
  std::map<std::string, double> out;
  rewards_.write("critic/rewards", out);
  advantages_.write("critic/advantages", out);
  response_length_.write("response_length", out);
  prompt_length_.write("prompt_length", out);
  for (const auto& [name, series] : parts_)
    if (series.n > 0) out["reward/" + name + "/mean"] = series.sum / series.n;
  const double completions = std::max(completions_, 1.0), groups = std::max(groups_, 1.0);
  out["critic/acc/mean"] = accuracy_.n > 0 ? accuracy_.sum / accuracy_.n : 0;
  out["response_length/clip_ratio"] = truncated_ / completions;
  out["reward/timeout_ratio"] = timeouts_ / completions;
  out["reward/unscorable_ratio"] = unscorable_ / completions;
  out["reward/no_answer_ratio"] = no_answer_ / completions;
  out["reward_std"] = reward_std_sum_ / groups;
  out["frac_reward_zero_std"] = zero_variance_groups_ / groups;
  out["filter_groups/dropped"] = static_cast<double>(dropped);
  out["filter_groups/generated"] = groups_;
  return out;
}

int64_t count_tokens(const ScoredGroup& group) {
  int64_t tokens = 0;
  for (const ScoredCompletion& c : group.completions)
    tokens += static_cast<int64_t>(c.completion.token_ids.size());
  return tokens;
}

void add_timing(const StepTimes& times, std::map<std::string, double>& metrics) {
  const double step_s =
      times.generation.generate_s + times.generation.reward_tail_s + times.update_s;
  const auto tokens = static_cast<double>(times.generated_tokens);
  metrics["timing_s/gen"] = times.generation.generate_s;
  metrics["timing_s/reward"] = times.generation.reward_tail_s;
  metrics["timing_s/update_actor"] = times.update_s;
  metrics["timing_s/step"] = step_s;
  metrics["perf/throughput"] = tokens / std::max(step_s, 1e-9);
  metrics["perf/gen_throughput"] = tokens / std::max(times.generation.generate_s, 1e-9);
  metrics["filter_groups/rounds"] = static_cast<double>(times.rounds);
  metrics["training/total_num_tokens"] = tokens;
}

std::string headline(const std::map<std::string, double>& metrics) {
  const auto get = [&](const char* name) {
    const auto found = metrics.find(name);
    return found == metrics.end() ? std::nan("") : found->second;
  };
  char text[160];
  std::snprintf(text, sizeof text,
                "reward %.3f · acc %.1f %% · length %.1f · entropy %.3f · %.0f tok/s",
                get("critic/rewards/mean"), 100 * get("critic/acc/mean"),
                get("response_length/mean"), get("actor/entropy"), get("perf/throughput"));
  return text;
}

SampleRecord to_record(const ScoredGroup& group, size_t index, int64_t step,
                       const std::string& stage, const std::string& split, double reward,
                       double advantage, bool in_loss) {
  const ScoredCompletion& c = group.completions[index];
  SampleRecord r;
  r.step = step;
  r.stage = stage;
  r.split = split;
  r.prompt_id = group.prompt.prompt_id;
  r.sample_index = static_cast<int32_t>(c.completion.sample_index);
  r.data_source = group.prompt.row->data_source;
  r.prompt = group.prompt.row->prompt;
  r.response = c.response;
  r.ground_truth = group.prompt.row->ground_truth;
  r.token_ids = c.completion.token_ids;
  r.log_probs = c.completion.log_probs;
  r.finish_reason = c.completion.finish_reason == FinishReason::kStop ? "stop" : "length";
  r.reward = reward;
  r.status = reward::status_name(c.verdict.status);
  r.extracted = c.verdict.extracted;
  r.parts = c.verdict.parts;
  r.advantage = advantage;
  r.in_loss = in_loss;
  r.policy_version = c.completion.policy_version;
  return r;
}

}  // namespace moerl
