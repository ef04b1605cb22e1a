#include "experiments/openai/answer_text.h"

#include <algorithm>
#include <utility>

#include "experiments/partial_match.h"

namespace moerl::openai {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

}  // namespace

std::string StopMatcher::push(std::string_view piece) {
  if (stopped_) return "";
  held_ += piece;
  size_t found = std::string::npos, keep = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    keep = std::max(keep, partial_match(held_, stop));
  }
  stopped_ = found != std::string::npos;
  const size_t certain = stopped_ ? found : held_.size() - keep;
  std::string text = held_.substr(0, certain);
  held_.erase(0, stopped_ ? held_.size() : certain);
  return text;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

AnswerPiece ReasoningSplitter::push(std::string_view piece) {
  held_ += piece;
  AnswerPiece out;
  if (state_ == State::kStart) {
    const size_t begin = held_.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) return out;
    const std::string_view text = std::string_view(held_).substr(begin);
    if (text.starts_with(kOpen)) {
      held_.erase(0, begin + kOpen.size());
      state_ = State::kInside;
    } else if (kOpen.starts_with(text)) {
      return out;
    } else {
      state_ = State::kContent;
    }
  }
  if (state_ == State::kInside) {
    const size_t end = held_.find(kClose);
    const bool closes = end != std::string::npos;
    const size_t certain = closes ? end : held_.size() - partial_match(held_, kClose);
    out.reasoning = held_.substr(0, certain);
    held_.erase(0, closes ? end + kClose.size() : certain);
    if (!closes) return out;
    state_ = State::kContent;
  }
  out.content = std::exchange(held_, {});
  return out;
}

AnswerPiece ReasoningSplitter::finish() {
  std::string rest = std::exchange(held_, {});
  return state_ == State::kInside ? AnswerPiece{.reasoning = std::move(rest), .content = {}}
                                  : AnswerPiece{.reasoning = {}, .content = std::move(rest)};
}

}  // namespace moerl::openai
