#include "reward/extraction/answer_extraction.h"

#include <algorithm>

#include "reward/extraction/boxes.h"
#include "reward/extraction/markers.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

/// A whole response of at most this size may be an answer without any mark.
constexpr size_t kMaxBareAnswer = 256;

using Candidates = std::vector<Candidate>;

void add(Candidates& candidates, std::string_view text) {
  text = strip(text);
  if (!text.empty()) candidates.push_back({std::string(text)});
}

bool add_boxes(Candidates& candidates, std::string_view text) {
  const std::vector<Box> boxes = find_boxes(text);
  if (boxes.empty()) return false;
  if (auto joined = joined_boxes(text, boxes)) candidates.push_back({std::move(*joined), true});
  candidates.push_back({std::string(boxes.back().content)});
  return true;
}

/// A dollar sign, text: the whole of a short marked text, then ever smaller parts of it.
void add_marked(Candidates& candidates, std::string_view text, bool with_parts) {
  const std::string_view sentence = first_sentence(text);
  if (const auto formula = leading_formula(text)) add(candidates, *formula);
  add(candidates, sentence);
  if (const auto number = leading_number(sentence)) add(candidates, *number);
  if (!with_parts) return;
  if (const auto formula = last_formula(sentence)) add(candidates, *formula);
}

void add_after_marker(Candidates& candidates, std::string_view text, bool with_parts) {
  if (const auto marked = after_last_marker(text)) add_marked(candidates, *marked, with_parts);
}

bool add_hashes(Candidates& candidates, std::string_view text) {
  constexpr std::string_view kHashes = "####";
  const size_t at = text.rfind(kHashes);
  if (at == std::string_view::npos) return false;
  text = text.substr(at + kHashes.size());
  add(candidates, text.substr(0, text.find('\n')));
  return true;
}

Candidates any(std::string_view text) {
  Candidates candidates;
  if (add_boxes(candidates, text)) return candidates;
  if (const auto tagged = last_answer(text); tagged && !tagged->empty()) {
    if (!add_boxes(candidates, *tagged)) add(candidates, *tagged);
    return candidates;
  }
  if (add_hashes(candidates, text)) return candidates;
  add_after_marker(candidates, text, true);
  if (text.size() <= kMaxBareAnswer) add(candidates, text);
  if (const auto formula = last_formula(text)) add(candidates, *formula);
  return candidates;
}

}  // namespace

Extraction read_extraction(OptionReader& reader, Extraction fallback) {
  return static_cast<Extraction>(reader.choice(
      "extraction", static_cast<size_t>(fallback),
      {"box_or_marker", "box", "marker", "answer_tag", "hashes", "last_number", "any", "none"}));
}

std::vector<Candidate> extract_answers(std::string_view graded, Extraction extraction) {
  const std::string_view text = before_chat_token(graded);
  Candidates candidates;
  switch (extraction) {
    case Extraction::kBoxOrMarker:
      if (!add_boxes(candidates, text)) add_after_marker(candidates, text, false);
      break;
    case Extraction::kBox:
      add_boxes(candidates, text);
      break;
    case Extraction::kMarker:
      add_after_marker(candidates, text, false);
      break;
    case Extraction::kAnswerTag:
      if (const auto tagged = last_answer(text))
        if (!add_boxes(candidates, *tagged)) add(candidates, *tagged);
      break;
    case Extraction::kHashes:
      add_hashes(candidates, text);
      break;
    case Extraction::kLastNumber:
      if (const auto number = last_number(text)) add(candidates, *number);
      break;
    case Extraction::kAny:
      return any(text);
    case Extraction::kNone:
      add(candidates, text);
      break;
  }
  return candidates;
}

std::string_view before_chat_token(std::string_view text) {
  size_t end = text.size();
  for (const std::string_view token : {"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>",
                                       "<|end_of_sentence|>", "<｜end▁of▁sentence｜>", "</s>"})
    end = std::min(end, text.substr(0, end).find(token));
  return text.substr(0, std::min(end, text.size()));
}

char choice_letter(std::string_view answer, char last) {
  // What may stand around the letter: emphasis, brackets, dollar signs, \text{...}.
  for (bool is_smaller = true; is_smaller;) {
    const size_t before = answer.size();
    answer = strip(answer);
    for (const std::string_view mark :
         {"**", "*", "$", "(", "[", "{", "\\textbf", "\\text", "\\mathrm", "\\mathbf", "option ",
          "Option ", "choice ", "Choice ", "\"", "'"})
      if (answer.starts_with(mark)) answer.remove_prefix(mark.size());
    is_smaller = answer.size() < before;
  }
  if (answer.empty() || answer[0] < 'A' || answer[0] > last) return 0;
  if (answer.size() == 1) return answer[0];
  const char next = answer[1];
  const bool is_word = ('a' <= next && next <= 'z') || ('A' <= next && next <= 'Z') ||
                       ('0' <= next && next <= '9') || next == '\'' || next == '_' || next == '-';
  // "A line ..." is an article, "A because ..." is not: only a mark or the end may follow an A.
  if (is_word) return 0;
  if (answer[0] == 'A' && next == ' ' && answer.size() > 2 && 'a' <= answer[2] && answer[2] <= 'z')
    return answer.substr(2).starts_with("because") || answer.substr(2).starts_with("is ") ? 'A' : 0;
  return answer[0];
}

std::string choice_letters(std::string_view answer, char last) {
  std::string letters;
  while (!answer.empty()) {
    bool is_mark = false;
    for (const std::string_view mark :
         {" ", "\n", ",", ";", "&",        "(",      ")",        "[",   "]",  "{",
          "}", "$",  "*", ".", "\\textbf", "\\text", "\\mathrm", "and", "、", "，"})
      if (!is_mark && answer.starts_with(mark)) {
        answer.remove_prefix(mark.size());
        is_mark = true;
      }
    if (is_mark) continue;
    if (answer[0] < 'A' || answer[0] > last) return "";
    letters += answer[0];
    answer.remove_prefix(1);
  }
  std::sort(letters.begin(), letters.end());
  letters.erase(std::unique(letters.begin(), letters.end()), letters.end());
  return letters;
}

}  // namespace moerl::reward
