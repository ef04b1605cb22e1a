#include "reward/verifiers/format_rules.h"

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
  }
  check(false, "follows_format: rule is ", static_cast<int>(rule),
        ", expected a shape of the text");
  return false;
}

}  // namespace moerl::reward
