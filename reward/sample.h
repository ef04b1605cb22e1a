#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moerl::reward {

/// Options of a verifier by name, as a recipe gives them.
using Options = std::map<std::string, std::string>;

/// What a group reward reads of one completion of the group.
struct GroupMember {
  int64_t num_tokens = -1;  ///< -1: not known
  int64_t num_characters = 0;
  bool is_correct = false;

  bool operator==(const GroupMember&) const = default;
};

/// What a verifier reads: one completion, the row it answers, and what has been found out about it
/// before. A verdict is a pure function of these, so facts that a reward needs travel with the
/// sample and are never asked for.
struct Sample {
  /// Text of the completion, without the prompt.
  std::string response;
  std::string ground_truth;
  /// JSON object with what else the row has; may be empty.
  std::string extra_info_json;
  std::string data_source;
  /// The prompt's text; may be empty.
  std::string prompt;
  /// Tokens of the completion, the stop token included; -1: not known.
  int64_t num_tokens = -1;
  /// The tokens; may be empty although num_tokens is known.
  std::vector<int32_t> token_ids;
  /// Whether the reward's first part found the answer right; empty: not known.
  std::optional<bool> is_correct;
  /// All completions of the prompt, this one included, without those that cannot be scored; empty:
  /// not known.
  std::vector<GroupMember> group;
};

/// One request for a verdict.
struct ScoreItem {
  /// Chosen by the caller; the verdict carries it back.
  uint64_t id = 0;
  /// Name of a verifier, such as "countdown".
  std::string verifier;
  Sample sample;
  Options options;
};

}  // namespace moerl::reward
