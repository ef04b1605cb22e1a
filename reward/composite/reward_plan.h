#pragma once
#include <map>
#include <string>
#include <vector>

#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// When a part counts. What the completion earns by its other parts stays.
enum class Gate {
  kAlways,
  kAnswered,  ///< the first part found an answer that it could compare: correct or incorrect
  kCorrect,   ///< the first part found the answer right
};

/// One term of a reward.
struct RewardPart {
  /// Names the part in metrics and stored samples. Empty for a reward that is one verifier and
  /// nothing else: its own parts are then logged by their names.
  std::string name;
  std::string verifier;
  Options options;
  double weight = 1;
  Gate gate = Gate::kAlways;
  /// If false, a completion that this part cannot score keeps its other parts; else it has no
  /// score at all.
  bool required = true;
  /// The part's score by status, in place of the verifier's own: "correct" and "incorrect" must be
  /// there; a status without an entry counts as incorrect, also a timeout. Empty: as the verifier
  /// says.
  std::map<std::string, double> score_by_status;
};

/// The terms of one data source's reward. The first judges the answer: its status is the
/// completion's, and tells the others whether the answer is right.
using RewardParts = std::vector<RewardPart>;

/// Which reward a row earns.
struct RewardPlan {
  RewardParts parts;                          ///< of every data source without a route
  std::map<std::string, RewardParts> routes;  ///< by data source

  /// @throws std::invalid_argument naming the data source if it has neither.
  const RewardParts& parts_for(const std::string& data_source) const;
};

/// @throws std::invalid_argument if one of several parts has no name, a name occurs twice, a part
/// has no
///   verifier, the first part is gated, or score_by_status has an unknown status or lacks correct
///   or incorrect.
void check_parts(const RewardParts& parts);

/// The part's score of a verdict, before its weight. 0 if the status is unscorable.
double part_score(const RewardPart& part, const Verdict& verdict);

/// True if the part counts for a completion whose first part ended like this.
bool is_open(Gate gate, VerdictStatus first);

/// The verdict on a completion:
///
///   score = sum over parts of weight * part_score
///
/// with the status, extracted answer and detail of the first part. parts holds each part's score
/// by the part's name, 0 where its gate is shut, and the verifier's own parts as "name/part" where
/// it has several. A required part that is unscorable makes the completion unscorable: its status
/// and detail are the verdict's, the score is 0. A part without a name leaves the verifier's parts
/// as they are. A single part of weight 1 keeps the bits of the verifier's score.
/// @param verdicts  by part; what stands at a part whose gate is shut is not read.
Verdict combine(const RewardParts& parts, const std::vector<Verdict>& verdicts);

}  // namespace moerl::reward
