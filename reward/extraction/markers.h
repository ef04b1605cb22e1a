#pragma once
#include <optional>
#include <string_view>

namespace moerl::reward {

/// What follows the last mark of an answer, to the end of the text: "Answer: ...", "the answer is
/// ...", "answer = ...", "Answer $5$", and the same in some other languages. A mark without text
/// after it does not count. Empty if there is none.
std::optional<std::string_view> after_last_marker(std::string_view text);

/// The first sentence, or the first line: up to a full stop before a space or the end, or a new
/// line.
std::string_view first_sentence(std::string_view text);

/// What is inside $...$, $$...$$, \(...\) or \[...\] at the front, if nothing but another formula
/// and joining words follow in the sentence: then all of it.
std::optional<std::string_view> leading_formula(std::string_view text);

/// A number at the front that words follow: "42 because ...".
std::optional<std::string_view> leading_number(std::string_view text);

/// The last delimited formula or the last number, whichever ends later.
std::optional<std::string_view> last_formula(std::string_view text);

/// The last number, with its sign, thousands separators, decimals and fraction.
std::optional<std::string_view> last_number(std::string_view text);

}  // namespace moerl::reward
