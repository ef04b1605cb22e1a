#pragma once
#include <cstdint>
#include <string_view>

namespace moerl::eval {

/// A response in two parts.
struct SplitResponse {
  /// Up to and with the last `</think>`; all of it if the thoughts never end; empty if there are
  /// none.
  std::string_view thinking;
  std::string_view answer;
};

/// @param prefix_open_think  the prompt ends inside a `<think>` block.
SplitResponse split_response(std::string_view response, bool prefix_open_think);

/// Whether a prompt leaves a `<think>` block open for the response.
bool leaves_think_open(std::string_view prompt);

/// How a model reconsiders, counted in its text: whole phrases, whatever their case.
struct ReflectionCounts {
  int64_t reflections = 0;  ///< "wait", "hmm", "let me check", "double-check", "等等", …
  int64_t backtracks = 0;  ///< "try again", "start over", "another approach", "mistake", "重新", …
};
ReflectionCounts count_reflections(std::string_view text);

/// Share in [0, 1] of the letters that do not belong to the script most letters are of; 0 without
/// letters. Han, kana, hangul and bopomofo count as one script, a letter of them as many as five of
/// an alphabet (about a word). Code fences, formulas between dollars and words with a backslash are
/// left out.
double minority_script_share(std::string_view text);

/// A text mixes languages if its minority_script_share is above this.
inline constexpr double kLanguageMixThreshold = 0.05;

}  // namespace moerl::eval
