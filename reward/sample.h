#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace moerl::reward {

/// Options of a verifier by name, as a recipe gives them.
using Options = std::map<std::string, std::string>;

/// What a verifier reads: one completion and the row it answers.
struct Sample {
  /// Text of the completion, without the prompt.
  std::string response;
  std::string ground_truth;
  /// JSON object with what else the row has; may be empty.
  std::string extra_info_json;
  std::string data_source;
  /// The prompt's text; may be empty.
  std::string prompt;
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
