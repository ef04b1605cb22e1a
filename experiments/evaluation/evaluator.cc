#include "experiments/evaluation/evaluator.h"

#include <algorithm>
#include <mutex>

#include "common/check.h"
#include "common/rng.h"
#include "experiments/evaluation/metrics/text_statistics.h"
#include "reward/utf8.h"

namespace moerl::eval {
namespace {

/// Tokens of the response up to the end of its last thought: the fewest whose text holds it.
int64_t thinking_tokens(const policy::Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                        const std::string& response, bool prefix_open_think) {
  const size_t size = split_response(response, prefix_open_think).thinking.size();
  if (size == response.size() && size > 0) return static_cast<int64_t>(tokens.size());
  size_t low = 0, high = tokens.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    const auto part = std::span<const int32_t>(tokens).first(middle);
    if (tokenizer.decode(part).size() < size) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<int64_t>(low);
}

EvalRecord make_record(const policy::Tokenizer& tokenizer, const EvalPlan& plan,
                       const DrawnPrompt& prompt, const ScoredCompletion& scored) {
  const Problem& problem = plan.problems[prompt.prompt_id];
  EvalRecord r;
  r.suite = plan.suite;
  r.problem = static_cast<int64_t>(prompt.prompt_id);
  r.id = problem.id;
  r.sample = scored.completion.sample_index;
  r.prompt_hash = hash_hex(hash64(problem.row.prompt));
  r.response = reward::to_valid_utf8(scored.response);
  r.prompt_tokens = static_cast<int64_t>(prompt.token_ids.size());
  r.response_tokens = static_cast<int64_t>(scored.completion.token_ids.size());
  r.thinking_tokens = thinking_tokens(tokenizer, scored.completion.token_ids, scored.response,
                                      leaves_think_open(problem.row.prompt));
  r.finish_reason = scored.completion.finish_reason;
  r.status = scored.verdict.status;
  r.score = scored.verdict.score;
  r.parts = scored.verdict.parts;
  r.extracted = scored.verdict.extracted;
  r.detail = scored.verdict.detail;
  return r;
}

}  // namespace

EvalPlan validation_plan(const Recipe& recipe, const TaskData& task,
                         std::vector<int32_t> stop_token_ids) {
  return {.suite = recipe.task.name == "jsonl" ? "val" : recipe.task.name,
          .problems = problems_of(task.val, 0),
          .n = recipe.val.n,
          .sampling = {.temperature = recipe.val.temperature,
                       .top_p = recipe.val.top_p,
                       .max_tokens = recipe.max_response_length(),
                       .stop_token_ids = std::move(stop_token_ids)},
          .seed = purpose_seed(static_cast<uint64_t>(recipe.seed), "val")};
}

std::vector<ProblemRecord> problem_records(const EvalPlan& plan) {
  std::vector<ProblemRecord> records;
  for (const Problem& p : plan.problems)
    records.push_back({plan.suite, static_cast<int64_t>(records.size()), p.id, p.group,
                       p.row.data_source, p.row.prompt, p.row.ground_truth, p.row.extra_info_json});
  return records;
}

std::vector<ScoredGroup> evaluate(Generator& generator, const policy::Tokenizer& tokenizer,
                                  const EvalPlan& plan, int64_t policy_version,
                                  const EvalCallbacks& callbacks) {
  std::vector<DrawnPrompt> prompts;
  for (size_t i = 0; i < plan.problems.size(); ++i) {
    if (callbacks.is_done && callbacks.is_done(static_cast<int64_t>(i))) continue;
    const PromptRow& row = plan.problems[i].row;
    prompts.push_back({i, &row, tokenizer.encode(row.prompt)});
    const auto length = static_cast<int64_t>(prompts.back().token_ids.size());
    if (plan.max_prompt_tokens > 0 && length > plan.max_prompt_tokens)
      throw ConfigError(concat(
          "suite ", plan.suite, ": the prompt of problem ", plan.problems[i].id, " has ", length,
          " tokens, and the model's context holds at most ", plan.max_prompt_tokens));
  }
  if (prompts.empty()) return {};
  std::mutex mutex;
  const auto on_scored = [&](const DrawnPrompt& prompt, const ScoredCompletion& scored) {
    const EvalRecord record = make_record(tokenizer, plan, prompt, scored);
    std::lock_guard lock(mutex);
    callbacks.on_record(record);
  };
  return generator.run(std::move(prompts), plan.n, plan.sampling, plan.seed, policy_version,
                       callbacks.on_progress, nullptr, on_scored);
}

std::map<std::string, double> validation_metrics(const std::vector<Problem>& problems,
                                                 std::vector<EvalRecord> records) {
  std::sort(records.begin(), records.end(), [](const EvalRecord& a, const EvalRecord& b) {
    return std::pair(a.problem, a.sample) < std::pair(b.problem, b.sample);
  });
  std::map<std::string, std::vector<EvalRecord>> by_source;
  for (EvalRecord& r : records)
    by_source[problems.at(static_cast<size_t>(r.problem)).row.data_source].push_back(std::move(r));
  std::map<std::string, double> metrics;
  for (const auto& [source, of_source] : by_source) {
    const Summary s = summarize(of_source, {});
    const std::string core = "val-core/" + source + "/acc/", aux = "val-aux/" + source + "/";
    const std::string mean_at = concat("mean@", s.n);
    metrics[core + mean_at] = s.accuracy().value;
    metrics[aux + "acc/" + mean_at + "/low"] = s.accuracy().interval.low;
    metrics[aux + "acc/" + mean_at + "/high"] = s.accuracy().interval.high;
    metrics[aux + "acc/" + mean_at + "/std"] = s.spread.std_across_runs;
    for (const Estimate& e : s.estimates)
      if (e.name == concat("pass@", s.n)) metrics[core + concat("best@", s.n)] = e.value;
    metrics[aux + "response_length/mean"] = s.response.mean;
    metrics[aux + "response_length/clip_ratio"] = s.truncated;
    metrics[aux + "thinking_length/mean"] = s.thinking.mean;
    metrics[aux + "no_answer_ratio"] = s.no_answer;
    metrics[aux + "unscorable_ratio"] = s.unscorable;
  }
  return metrics;
}

}  // namespace moerl::eval
