#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moerl::openai {

/// Ends a text at the first of some strings, as it comes. One stream, one thread.
class StopMatcher {
 public:
  /// @param stops  none of them empty, all valid UTF-8; borrowed.
  explicit StopMatcher(const std::vector<std::string>& stops) : stops_(stops) {}

  /// @param piece  whole characters.
  /// @return the text that is certain: it lies before any stop, and what a stop may begin with is
  ///   held back.
  std::string push(std::string_view piece);
  /// What was held back.
  std::string finish();
  /// A stop was found; it and what follows are dropped.
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string>& stops_;
  std::string held_;
  bool stopped_ = false;
};

/// A piece of an answer: what a model thinks, or what it says.
struct AnswerPiece {
  std::string reasoning, content;
  bool empty() const { return reasoning.empty() && content.empty(); }
};

/// Takes <think> … </think> at the beginning of an answer apart from the rest, as it comes. Nothing
/// but the tags and white space before the first is dropped. One stream, one thread.
class ReasoningSplitter {
 public:
  /// @param starts_inside  the prompt has opened <think> already.
  explicit ReasoningSplitter(bool starts_inside)
      : state_(starts_inside ? State::kInside : State::kStart) {}

  AnswerPiece push(std::string_view piece);
  /// What was held back because it could have been a tag.
  AnswerPiece finish();

 private:
  enum class State { kStart, kInside, kContent };
  State state_;
  std::string held_;
};

}  // namespace moerl::openai
