#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";
constexpr std::string_view kAnswer = "<answer>", kAnswerEnd = "</answer>";

}  // namespace

std::optional<std::string_view> graded_text(std::string_view response, bool prefix_open_think) {
  const size_t end_of_thoughts = response.rfind(kThinkEnd);
  const bool has_left = end_of_thoughts != std::string_view::npos;
  if (!has_left && prefix_open_think) return std::nullopt;
  if (has_left) response.remove_prefix(end_of_thoughts + kThinkEnd.size());
  const size_t reopened = response.find(kThink);
  if (reopened == std::string_view::npos) return response;
  response = response.substr(0, reopened);
  if (!has_left && strip(response).empty()) return std::nullopt;
  return response;
}

std::optional<std::string_view> last_answer(std::string_view text) {
  const size_t end = text.rfind(kAnswerEnd);
  if (end == std::string_view::npos) return std::nullopt;
  text = text.substr(0, end);
  const size_t begin = text.rfind(kAnswer);
  if (begin == std::string_view::npos) return std::nullopt;
  return strip(text.substr(begin + kAnswer.size()));
}

std::string_view strip(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string_view truncate_utf8(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && (static_cast<unsigned char>(text[max_bytes]) & 0xC0) == 0x80) --max_bytes;
  return text.substr(0, max_bytes);
}

size_t count_occurrences(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace moerl::reward
