#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// open-r1's tag count: 0.25 for each of "<think>\n", "\n</think>\n", "\n<answer>\n" and
/// "\n</answer>" that occurs exactly once. Option prefix_open_think (false): the prompt ends with
/// "<think>\n", which then counts as the response's.
class TagCountVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "tag_count"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"tag_count"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

/// open-r1's reasoning steps: min(1, count / num_steps) with num_steps 3, where each of these
/// counts one: "Step 7:", "7." at the start of a line, a line that starts with "-" or "*" (not the
/// first), "First,", "Second,", "Next,", "Finally,".
class ReasoningStepsVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "reasoning_steps"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"reasoning_steps"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

/// Repetition penalty over n-grams: max_penalty (-1) times 1 - unique / all of the response's
/// n-grams (ngram_size 3); 0 for a response with fewer than n units. Option unit: words (default),
/// in lower case, at white space, and within scripts that are written without spaces at ICU's word
/// boundaries; or token_ids.
class RepetitionVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "repetition"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"repetition"}; }
  SampleNeeds needs() const override { return {.token_ids = true}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
