#pragma once
#include <string>
#include <vector>

#include "experiments/generation.h"

namespace moerl::testing {

/// A completion of `length` tokens with a status; reward 1 if correct.
inline ScoredCompletion scored(reward::VerdictStatus status, size_t length,
                               FinishReason finish = FinishReason::kStop) {
  ScoredCompletion c;
  c.completion.token_ids.assign(length, 3);
  c.completion.log_probs.assign(length, -0.5f);
  c.completion.finish_reason = finish;
  c.verdict.status = status;
  c.verdict.score = status == reward::VerdictStatus::kCorrect ? 1 : 0;
  return c;
}
inline ScoredGroup group_of(const PromptRow& row, std::vector<ScoredCompletion> completions,
                            size_t prompt_length = 5) {
  ScoredGroup group;
  group.prompt.row = &row;
  group.prompt.token_ids.assign(prompt_length, 1);
  group.completions = std::move(completions);
  for (size_t i = 0; i < group.completions.size(); ++i)
    group.completions[i].completion.sample_index = static_cast<int64_t>(i);
  return group;
}

}  // namespace moerl::testing
