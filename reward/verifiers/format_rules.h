#pragma once
#include <string_view>

namespace moerl::reward {

/// Shapes of a whole response. Tags are literal and case sensitive.
enum class FormatRule {
  /// The verifier found a well formed answer; a verifier decides it, follows_format does not.
  kAnswer,
  /// The whole text is "<think>\n...\n</think>\n<answer>\n...\n</answer>", each tag exactly once,
  /// nothing before or after (open-r1's format reward, anchored at the end).
  kThinkAnswerStrict,
  /// One think block, then one answer block, each tag exactly once; around and between the blocks
  /// only white space.
  kThinkAnswer,
  /// Starts with "<think>", which occurs once, and has a "</think>" (TRL's think_format_reward).
  kThinkOnly,
  /// Starts with "<think>"; both tags occur once and text follows (verifiers' think parser).
  kThinkThenText,
  /// A think block, or several, with text inside, anywhere; tags in any case of letters and with
  /// white space (torchforge's thinking reward).
  kThinkGraded,
};

/// True if the response has the shape. Linear in its length.
/// @param rule  not kAnswer.
/// @param prefix_open_think  the prompt ends with "<think>" (and a newline for kThinkAnswerStrict),
///   so the response is checked as if it started with that.
/// @throws std::invalid_argument for kAnswer.
bool follows_format(FormatRule rule, std::string_view response, bool prefix_open_think);

/// True if there is an opening or closing think tag as kThinkGraded reads them.
bool has_think_tag(std::string_view response);

}  // namespace moerl::reward
