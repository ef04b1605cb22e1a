#include "experiments/generation.h"

#include <grpcpp/support/status.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>

#include "common/check.h"
#include "common/clock.h"

namespace moerl {
namespace {

/// Verdicts as they come in from the reward client's threads.
class VerdictCollector {
 public:
  /// Called under the collector's lock: one at a time, and never after abandon().
  using OnVerdict = std::function<void(size_t index, const reward::Verdict& verdict)>;

  VerdictCollector(int64_t expected, OnVerdict on_verdict, const Generator::OnProgress& on_progress)
      : verdicts_(static_cast<size_t>(expected)),
        on_verdict_(std::move(on_verdict)),
        on_progress_(&on_progress) {}

  void put(size_t index, std::exception_ptr error, reward::Verdict verdict) {
    int64_t done = 0;
    {
      std::lock_guard lock(mutex_);
      if (!error && on_verdict_) {
        try {
          on_verdict_(index, verdict);
        } catch (...) {
          error = std::current_exception();
        }
      }
      if (error && !error_) error_ = error;
      verdicts_[index] = std::move(verdict);
      done = ++done_;
      // Under the lock: once the waiter has seen the last one, this object may be gone.
      changed_.notify_all();
      if (on_progress_ && *on_progress_)
        (*on_progress_)(done, static_cast<int64_t>(verdicts_.size()));
    }
  }
  /// Blocks until `count` verdicts are there. The reward client ends every item within its
  /// deadlines.
  void wait(int64_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= count; });
  }
  /// Nobody waits any more: the caller's functions are not called again.
  void abandon() {
    std::lock_guard lock(mutex_);
    on_verdict_ = nullptr;
    on_progress_ = nullptr;
  }
  std::vector<reward::Verdict> take() {
    std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    return std::move(verdicts_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<reward::Verdict> verdicts_;
  std::exception_ptr error_;
  int64_t done_ = 0;
  OnVerdict on_verdict_;
  const Generator::OnProgress* on_progress_;
};

}  // namespace

std::string Generator::text_of(const Completion& completion, const SamplingParams& sampling) const {
  std::span<const int32_t> tokens = completion.token_ids;
  if (completion.finish_reason == FinishReason::kStop && !tokens.empty() &&
      std::count(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end(), tokens.back()) > 0)
    tokens = tokens.first(tokens.size() - 1);
  return tokenizer_.decode(tokens);
}

std::vector<Completion> Generator::generate(
    const GenerateRequest& request, const std::function<void(const Completion&)>& on_completion) {
  constexpr int kAttempts = 3;
  for (int attempt = 1;; ++attempt) {
    try {
      return workers_.generate(request, on_completion);
    } catch (const FailedPrecondition&) {
      if (!restore_workers_ || attempt == kAttempts) throw;
    } catch (const RpcError& error) {
      if (!restore_workers_ || attempt == kAttempts ||
          error.code() != grpc::StatusCode::UNAVAILABLE)
        throw;
    }
    restore_workers_();
  }
}

std::vector<ScoredGroup> Generator::run(std::vector<DrawnPrompt> prompts, int64_t group_size,
                                        const SamplingParams& sampling, uint64_t seed,
                                        int64_t policy_version, const OnProgress& on_progress,
                                        GenerationTimes* times, const OnScored& on_scored) {
  const auto start = std::chrono::steady_clock::now();
  std::map<uint64_t, size_t> index_of;
  std::vector<TokenizedPrompt> tokenized;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const bool is_new = index_of.emplace(prompts[i].prompt_id, i).second;
    check_internal(is_new, "prompt id ", prompts[i].prompt_id, " was drawn twice");
    tokenized.push_back({prompts[i].prompt_id, prompts[i].token_ids});
  }
  const int64_t total = static_cast<int64_t>(prompts.size()) * group_size;
  std::vector<ScoredCompletion> scored(on_scored ? static_cast<size_t>(total) : 0);
  VerdictCollector::OnVerdict on_verdict;
  if (on_scored)
    on_verdict = [&](size_t index, const reward::Verdict& verdict) {
      scored[index].verdict = verdict;
      on_scored(prompts[index / static_cast<size_t>(group_size)], scored[index]);
      scored[index] = {};
    };
  auto collector = std::make_shared<VerdictCollector>(total, std::move(on_verdict), on_progress);
  std::vector<std::shared_ptr<reward::GroupScoring>> scorings;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const PromptRow& row = *prompts[i].row;
    const auto parts =
        std::shared_ptr<const reward::RewardParts>(plan_, &plan_->parts_for(row.data_source));
    scorings.push_back(std::make_shared<reward::GroupScoring>(
        parts, needs_of_(*parts),
        reward::Sample{.ground_truth = row.ground_truth,
                       .extra_info_json = row.extra_info_json,
                       .data_source = row.data_source,
                       .prompt = row.prompt},
        static_cast<size_t>(group_size),
        [&rewards = rewards_](reward::ScoreItem item, reward::RewardClient::Callback done) {
          rewards.submit(std::move(item), std::move(done));
        },
        statistics_,
        [collector, begin = i * static_cast<size_t>(group_size)](
            size_t index, std::exception_ptr error, reward::Verdict verdict) {
          collector->put(begin + index, error, std::move(verdict));
        }));
  }
  std::vector<bool> is_submitted(static_cast<size_t>(total));
  const auto score = [&](const Completion& completion) {
    const size_t prompt = index_of.at(completion.prompt_id);
    const size_t index =
        prompt * static_cast<size_t>(group_size) + static_cast<size_t>(completion.sample_index);
    if (is_submitted[index]) return;  // the same completion once more, after workers were lost
    is_submitted[index] = true;
    std::string text = text_of(completion, sampling);
    if (on_scored) scored[index] = {completion, text, {}};
    scorings[prompt]->add(static_cast<size_t>(completion.sample_index), std::move(text),
                          completion.token_ids);
  };

  std::vector<Completion> completions;
  try {
    completions = generate({.prompts = std::move(tokenized),
                            .group_size = group_size,
                            .sampling = sampling,
                            .seed = seed,
                            .policy_version = policy_version},
                           score);
  } catch (...) {
    // Verdicts may still come, also of groups that will never be whole.
    collector->abandon();
    throw;
  }
  const double generate_s = seconds_since(start);
  collector->wait(total);
  std::vector<reward::Verdict> verdicts = collector->take();
  if (times != nullptr) {
    times->generate_s += generate_s;
    times->reward_tail_s += seconds_since(start) - generate_s;
  }

  std::vector<ScoredGroup> groups;
  for (size_t i = 0; i < prompts.size(); ++i) {
    ScoredGroup& group = groups.emplace_back();
    group.prompt = std::move(prompts[i]);
    for (int64_t k = 0; k < group_size; ++k) {
      const size_t index = i * static_cast<size_t>(group_size) + static_cast<size_t>(k);
      std::string text = text_of(completions[index], sampling);
      group.completions.push_back(
          {std::move(completions[index]), std::move(text), std::move(verdicts[index])});
    }
  }
  return groups;
}

}  // namespace moerl
