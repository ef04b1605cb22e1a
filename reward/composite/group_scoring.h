#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reward/composite/reward_plan.h"
#include "reward/composite/verifier_statistics.h"
#include "reward/verifier.h"

namespace moerl::reward {

/// Asks for one verdict; `done` is called once, from any thread. RewardClient::submit is one.
using SubmitItem =
    std::function<void(ScoreItem item, std::function<void(std::exception_ptr, Verdict)> done)>;

/// Scores the completions of one prompt, each as it comes, with every part of its reward.
///
/// A part that needs no more than the completion is asked for at once; one that needs its
/// correctness, when the first part has been judged; one that needs the group (such as len), when
/// the first parts of all completions have been judged (the group is in the order of the
/// completions, whichever was judged first). What a part needs travels with its request,
/// so every request is a pure function of itself and may be retried on any server.
class GroupScoring : public std::enable_shared_from_this<GroupScoring> {
 public:
  /// One completion's end: its verdict by combine(), or the first error of one of its parts.
  using Done = std::function<void(size_t index, std::exception_ptr error, Verdict verdict)>;

  /// @param parts  checked by check_parts.
  /// @param needs  of each part's verifier.
  /// @param row    what the completions of the prompt have in common.
  /// @param statistics  what each part's call took is added to it; shared.
  GroupScoring(std::shared_ptr<const RewardParts> parts, std::vector<SampleNeeds> needs, Sample row,
               size_t group_size, SubmitItem submit, std::shared_ptr<VerifierStatistics> statistics,
               Done done);

  /// Adds completion `index`; each is added once. Never blocks.
  void add(size_t index, std::string response, const std::vector<int32_t>& token_ids);

 private:
  struct Member {
    Sample sample;
    std::vector<Verdict> verdicts;
    std::exception_ptr error;
    size_t num_open = 0;  // parts without a verdict
  };
  using Requests = std::vector<std::pair<size_t, size_t>>;  // completion and part

  void send(const Requests& requests);
  void on_verdict(size_t index, size_t part, std::exception_ptr error, Verdict verdict);
  void after_first(size_t index, Requests& requests);
  ScoreItem make_item(size_t index, size_t part) const;

  const std::shared_ptr<const RewardParts> shared_parts_;
  const RewardParts& parts_;
  const std::vector<SampleNeeds> needs_;
  const Sample row_;
  const SubmitItem submit_;
  const std::shared_ptr<VerifierStatistics> statistics_;
  const Done done_;

  mutable std::mutex mutex_;  // guards what follows
  std::vector<Member> members_;
  std::vector<GroupMember>
      group_;            // by index, without the unscorable; filled when num_unjudged_ is 0
  size_t num_unjudged_;  // completions whose first part is open
};

}  // namespace moerl::reward
