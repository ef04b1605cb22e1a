#include "reward/verifiers/format_rules.h"

#include <optional>
#include <string>

#include "common/check.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

bool has_tags_once(std::string_view text) {
  for (std::string_view tag : {"<think>", "</think>", "<answer>", "</answer>"})
    if (count_occurrences(text, tag) != 1) return false;
  return true;
}

bool is_think_answer_strict(std::string_view text) {
  constexpr std::string_view kHead = "<think>\n", kMiddle = "\n</think>\n<answer>\n",
                             kTail = "\n</answer>";
  if (!text.starts_with(kHead) || !text.ends_with(kTail) || !has_tags_once(text)) return false;
  const size_t middle = text.find(kMiddle);
  return middle != std::string_view::npos && middle >= kHead.size() &&
         middle + kMiddle.size() + kTail.size() <= text.size();
}

bool is_think_answer(std::string_view text) {
  text = strip(text);
  if (!text.starts_with("<think>") || !text.ends_with("</answer>") || !has_tags_once(text))
    return false;
  const size_t thoughts_end = text.find("</think>") + std::string_view("</think>").size();
  const size_t answer = text.find("<answer>");
  return thoughts_end <= answer && strip(text.substr(thoughts_end, answer - thoughts_end)).empty();
}

bool is_think_only(std::string_view text) {
  return text.starts_with("<think>") && count_occurrences(text, "<think>") == 1 &&
         text.find("</think>") != std::string_view::npos;
}

/// A think tag in any case of letters, with white space around its parts.
struct LooseTag {
  size_t begin, end;
  bool is_closing;
};

/// The first such tag from `at` on; empty optional if there is none. Looks at no byte twice more
/// often than white space follows "<".
std::optional<LooseTag> find_loose_tag(std::string_view text, size_t at) {
  for (; (at = text.find('<', at)) != std::string_view::npos; ++at) {
    LooseTag tag{at, at + 1, false};
    const auto skip_space = [&] {
      while (tag.end < text.size() && strip(text.substr(tag.end, 1)).empty()) ++tag.end;
    };
    skip_space();
    if (tag.end < text.size() && text[tag.end] == '/') {
      tag.is_closing = true;
      ++tag.end;
      skip_space();
    }
    size_t matched = 0;
    for (char letter : std::string_view("think"))
      if (tag.end + matched < text.size() && (text[tag.end + matched] | 0x20) == letter) ++matched;
    if (matched < 5) continue;
    tag.end += 5;
    skip_space();
    if (tag.end >= text.size() || text[tag.end] != '>') continue;
    ++tag.end;
    return tag;
  }
  return std::nullopt;
}

bool is_think_graded(std::string_view text) {
  std::optional<size_t> thoughts;
  for (auto tag = find_loose_tag(text, 0); tag; tag = find_loose_tag(text, tag->end)) {
    if (tag->is_closing && thoughts &&
        !strip(text.substr(*thoughts, tag->begin - *thoughts)).empty())
      return true;
    if (tag->is_closing)
      thoughts.reset();
    else if (!thoughts)
      thoughts = tag->end;
  }
  return false;
}

bool is_think_then_text(std::string_view text) {
  constexpr std::string_view kEnd = "</think>";
  text = strip(text);
  return is_think_only(text) && count_occurrences(text, kEnd) == 1 &&
         !strip(text.substr(text.find(kEnd) + kEnd.size())).empty();
}

}  // namespace

bool follows_format(FormatRule rule, std::string_view response, bool prefix_open_think) {
  std::string prefixed;
  if (prefix_open_think) {
    prefixed = "<think>";
    if (rule == FormatRule::kThinkAnswerStrict && !response.starts_with('\n')) prefixed += '\n';
    prefixed += response;
    response = prefixed;
  }
  switch (rule) {
    case FormatRule::kAnswer:
      break;
    case FormatRule::kThinkAnswerStrict:
      return is_think_answer_strict(response);
    case FormatRule::kThinkAnswer:
      return is_think_answer(response);
    case FormatRule::kThinkOnly:
      return is_think_only(response);
    case FormatRule::kThinkThenText:
      return is_think_then_text(response);
    case FormatRule::kThinkGraded:
      return is_think_graded(response);
  }
  check(false, "follows_format: rule is ", static_cast<int>(rule),
        ", expected a shape of the text");
  return false;
}

bool has_think_tag(std::string_view response) { return find_loose_tag(response, 0).has_value(); }

}  // namespace moerl::reward
