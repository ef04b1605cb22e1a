#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "experiments/evaluation/records/eval_record.h"
#include "experiments/evaluation/suite/suite_rows.h"
#include "experiments/evaluation/summary.h"
#include "experiments/generation.h"
#include "experiments/recipe.h"

namespace moerl::eval {

/// One suite, ready to be asked. The same plan, weights and verifier give the same records,
/// whoever asks: training at test_freq and `moerl eval` alike.
struct EvalPlan {
  std::string suite;
  std::vector<Problem> problems;
  int64_t n = 1;  ///< samples a problem
  SamplingParams sampling;
  uint64_t seed = 0;              ///< key of the random numbers
  int64_t max_prompt_tokens = 0;  ///< of the model; 0: not known
};

/// The held-out evaluation of a training run, as test_freq does it.
/// @param stop_token_ids  that end a completion.
EvalPlan validation_plan(const Recipe& recipe, const TaskData& task,
                         std::vector<int32_t> stop_token_ids);

/// What problems.jsonl says of the plan.
std::vector<ProblemRecord> problem_records(const EvalPlan& plan);

struct EvalCallbacks {
  /// Whether a problem has all its samples already; such are not asked again. Null: none has.
  std::function<bool(int64_t problem)> is_done;
  /// Each record as it comes, in any order; never two at once.
  std::function<void(const EvalRecord&)> on_record;
  Generator::OnProgress on_progress;
};

/// Samples and scores the plan.
/// @return the groups that were generated.
/// @throws ConfigError naming a problem whose prompt is longer than the model's context;
///   the first error of a worker, of the reward service, or of a callback.
std::vector<ScoredGroup> evaluate(Generator& generator, const policy::Tokenizer& tokenizer,
                                  const EvalPlan& plan, int64_t policy_version,
                                  const EvalCallbacks& callbacks);

/// The figures of an evaluation as verl names them, by data source:
///   val-core/<source>/acc/mean@n  pass@1[avg-of-n];  …/best@n  pass@n
///   val-aux/<source>/acc/mean@n/low, …/high  its 95 % interval;  …/std  across runs
///   val-aux/<source>/response_length/mean, …/clip_ratio, thinking_length/mean
///   val-aux/<source>/no_answer_ratio, …/unscorable_ratio
/// @param records  in any order.
std::map<std::string, double> validation_metrics(const std::vector<Problem>& problems,
                                                 std::vector<EvalRecord> records);

}  // namespace moerl::eval
