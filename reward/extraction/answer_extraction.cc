#include "reward/extraction/answer_extraction.h"

#include <algorithm>

#include "reward/ascii.h"
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

/// Up to a box that is begun and not closed: an answer that was cut off is none.
std::string_view before_open_box(std::string_view text) {
  if (!find_boxes(text).empty()) return text;
  return text.substr(0, std::min(text.find("\\boxed"), text.find("\\fbox")));
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

/// The place that was asked for; where a sentence stands in it, also what the sentence announces.
void add_place(Candidates& candidates, std::string_view content) {
  candidates.push_back({std::string(content)});
  add_after_marker(candidates, content, true);
}

bool add_boxes(Candidates& candidates, std::string_view text) {
  const std::vector<Box> boxes = find_boxes(text);
  if (boxes.empty()) return false;
  if (auto joined = joined_boxes(text, boxes)) candidates.push_back({std::move(*joined), true});
  add_place(candidates, boxes.back().content);
  return true;
}

void add_answer_tag(Candidates& candidates, std::string_view tagged) {
  if (!add_boxes(candidates, tagged) && !tagged.empty()) add_place(candidates, tagged);
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
    add_answer_tag(candidates, *tagged);
    return candidates;
  }
  if (add_hashes(candidates, text)) return candidates;
  const std::string_view closed = before_open_box(text);
  add_after_marker(candidates, closed, true);
  if (closed.size() < text.size()) return candidates;
  if (text.size() <= kMaxBareAnswer) add(candidates, text);
  if (const auto formula = last_formula(text)) add(candidates, *formula);
  return candidates;
}

/// Without what may stand before the letter of a choice: emphasis, brackets, dollar signs, a box,
/// \text{...}.
std::string_view without_wrapping(std::string_view answer) {
  for (bool is_smaller = true; is_smaller;) {
    const size_t before = answer.size();
    answer = strip(answer);
    for (const std::string_view mark :
         {"**", "*", "$", "(", "[", "{", "\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\boxed",
          "\\fbox", "option ", "Option ", "choice ", "Choice ", "\"", "'"})
      if (answer.starts_with(mark)) answer.remove_prefix(mark.size());
    is_smaller = answer.size() < before;
  }
  return answer;
}

/// Without white space, LaTeX's commands and signs in front.
std::string_view without_marks(std::string_view text) {
  while (!text.empty() && !is_letter(text[0]) && !is_digit(text[0]) &&
         static_cast<unsigned char>(text[0]) < 0x80) {
    size_t size = 1;
    if (text[0] == '\\')
      while (size < text.size() && is_letter(text[size])) ++size;
    text.remove_prefix(size);
  }
  return text;
}

/// True if what follows the letter of a choice names another one: "A, B", "A or B", "A) (B)". Such
/// an answer has not chosen.
bool names_another(char letter, std::string_view rest, char last) {
  rest = without_marks(rest);
  for (const std::string_view word : {"and", "or"})
    if (rest.starts_with(word) && (rest.size() == word.size() || !is_letter(rest[word.size()])))
      return true;
  const bool is_choice = !rest.empty() && 'A' <= rest[0] && rest[0] <= last && rest[0] != letter;
  return is_choice && (rest.size() == 1 || !(is_letter(rest[1]) || is_digit(rest[1]) ||
                                             rest[1] == '\'' || rest[1] == '-'));
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
      if (!add_boxes(candidates, text)) add_after_marker(candidates, before_open_box(text), false);
      break;
    case Extraction::kBox:
      add_boxes(candidates, text);
      break;
    case Extraction::kMarker:
      add_after_marker(candidates, before_open_box(text), false);
      break;
    case Extraction::kAnswerTag:
      if (const auto tagged = last_answer(text)) add_answer_tag(candidates, *tagged);
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
  answer = without_wrapping(answer);
  if (answer.empty()) return 0;
  const bool is_capital = 'A' <= answer[0] && answer[0] <= last;
  // In small letters only alone: "b", "(b)"; "a line" and "b + 1" are none.
  if (!is_capital)
    return 'a' <= answer[0] && answer[0] <= to_lower(last) &&
                   without_marks(answer.substr(1)).empty()
               ? static_cast<char>(answer[0] - 'a' + 'A')
               : 0;
  if (answer.size() == 1) return answer[0];
  const char next = answer[1];
  // "A line ..." is an article, "A because ..." is not: only a mark or the end may follow an A.
  if (is_letter(next) || is_digit(next) || next == '\'' || next == '_' || next == '-') return 0;
  if (names_another(answer[0], answer.substr(1), last)) return 0;
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
