#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "experiments/tasks/task.h"
#include "policy/tokenizer.h"
#include "reward/composite/group_scoring.h"
#include "reward/reward_client.h"
#include "rollout/worker_pool.h"

namespace moerl {

/// A prompt of the data, drawn for generation.
struct DrawnPrompt {
  uint64_t prompt_id = 0;  ///< key of its random numbers
  const PromptRow* row = nullptr;
  std::vector<int32_t> token_ids;
};

/// One completion with its text and verdict.
struct ScoredCompletion {
  Completion completion;
  std::string response;  ///< text without the stop token
  reward::Verdict verdict;
};

/// All completions of one prompt, by sample index.
struct ScoredGroup {
  DrawnPrompt prompt;
  std::vector<ScoredCompletion> completions;
};

/// Seconds that one call spent in each part; scoring overlaps generation.
struct GenerationTimes {
  double generate_s = 0;     ///< until the last completion came
  double reward_tail_s = 0;  ///< waiting for verdicts after that
};

/// Samples and scores: each completion goes to the reward service as soon as it has finished.
class Generator {
 public:
  using NeedsOf = std::function<std::vector<reward::SampleNeeds>(const reward::RewardParts&)>;
  /// Called with (completions scored, completions in all), from any thread.
  using OnProgress = std::function<void(int64_t done, int64_t total)>;
  /// Called for each completion once it is scored, in any order, one at a time.
  using OnScored = std::function<void(const DrawnPrompt& prompt, const ScoredCompletion& scored)>;

  /// @param plan, needs_of  what a row earns, and what each part must be told.
  /// @param restore_workers  called when no worker is left that holds the policy version; what is
  ///   missing is then asked for again, at most twice. Throws if it cannot help. Null: give up.
  Generator(WorkerPool& workers, reward::RewardClient& rewards, const policy::Tokenizer& tokenizer,
            reward::RewardPlan plan, NeedsOf needs_of,
            std::function<void()> restore_workers = nullptr)
      : workers_(workers),
        rewards_(rewards),
        tokenizer_(tokenizer),
        plan_(std::make_shared<const reward::RewardPlan>(std::move(plan))),
        needs_of_(std::move(needs_of)),
        restore_workers_(std::move(restore_workers)) {}

  /// @return one group for each prompt, in their order. A pure function of the arguments and the
  /// weights.
  /// @throws the first error of a worker, of the reward service, or of on_scored.
  std::vector<ScoredGroup> run(std::vector<DrawnPrompt> prompts, int64_t group_size,
                               const SamplingParams& sampling, uint64_t seed,
                               int64_t policy_version, const OnProgress& on_progress,
                               GenerationTimes* times = nullptr, const OnScored& on_scored = {});

  /// What the calls of each verifier took since this was last asked; see VerifierStatistics.
  std::map<std::string, double> take_reward_metrics() { return statistics_->take_metrics(); }

 private:
  std::string text_of(const Completion& completion, const SamplingParams& sampling) const;
  std::vector<Completion> generate(const GenerateRequest& request,
                                   const std::function<void(const Completion&)>& on_completion);

  WorkerPool& workers_;
  reward::RewardClient& rewards_;
  const policy::Tokenizer& tokenizer_;
  std::shared_ptr<const reward::RewardPlan> plan_;
  NeedsOf needs_of_;
  std::shared_ptr<reward::VerifierStatistics> statistics_ =
      std::make_shared<reward::VerifierStatistics>();
  std::function<void()> restore_workers_;
};

}  // namespace moerl
