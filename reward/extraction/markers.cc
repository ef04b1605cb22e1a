#include "reward/extraction/markers.h"

#include <algorithm>
#include <utility>

#include "reward/ascii.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

constexpr size_t npos = std::string_view::npos;
/// "the answer to the second question is": bytes between the word and its verb.
constexpr size_t kMaxBetween = 48;

bool starts_with_folded(std::string_view text, std::string_view word) {
  return text.size() >= word.size() && std::equal(word.begin(), word.end(), text.begin(),
                                                  [](char w, char c) { return w == to_lower(c); });
}

size_t skip(std::string_view text, size_t at, std::string_view what) {
  return std::min(text.find_first_not_of(what, at), text.size());
}

/// Where what a mark announces begins, after its verb or colon; npos if this is no mark.
size_t announced(std::string_view text, size_t at) {
  constexpr std::string_view kDecoration = " \t*_\"";
  at = skip(text, at, kDecoration);
  const std::string_view rest = text.substr(at);
  for (const std::string_view verb :
       {":", "：", "=", "≈", "是", "为", "is:", "is", "are:", "are", "est", "es", "ist",
        "should be", "must be", "would be", "equals"}) {
    if (!starts_with_folded(rest, verb)) continue;
    const bool is_word = is_letter(verb.back());
    if (is_word && rest.size() > verb.size() && is_letter(rest[verb.size()])) continue;
    return skip(text, at + verb.size(), " \t\r\n*_:");
  }
  // "Answer $5$", "answer 5"
  if (!rest.empty() &&
      (rest[0] == '$' || is_digit(rest[0]) || rest.starts_with("\\(") || rest.starts_with("\\[")))
    return at;
  // "the answer to the question is"
  std::string_view between = rest.substr(0, kMaxBetween);
  between = between.substr(0, between.find_first_of("\n.:;$\\"));
  for (const std::string_view verb : {" is ", " are "}) {
    const size_t found = between.find(verb);
    if (found != npos) return at + found + verb.size();
  }
  return npos;
}

/// Formulas between delimiters, looked for from the front of a text to its end.
class FormulaFinder {
 public:
  explicit FormulaFinder(std::string_view text) : text_(text) {}

  /// Where the closing delimiter of a formula that opens at `at` ends; npos if none opens or it
  /// does not close. `inner` is its content. REQUIRES: `at` does not go back.
  size_t end(size_t at, std::string_view* inner = nullptr) {
    static constexpr std::pair<std::string_view, std::string_view> kDelimiters[] = {
        {"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}};
    for (size_t kind = 0; kind < std::size(kDelimiters); ++kind) {
      const auto& [open, close] = kDelimiters[kind];
      if (!text_.substr(at).starts_with(open)) continue;
      const size_t begin = at + open.size();
      const size_t end = is_absent_[kind] ? npos : text_.find(close, begin);
      is_absent_[kind] = end == npos;
      if (end == npos) return npos;
      if (inner) *inner = text_.substr(begin, end - begin);
      return end + close.size();
    }
    return npos;
  }

 private:
  const std::string_view text_;
  // No closing delimiter of the kind is ahead: so a text full of opening ones is read once.
  bool is_absent_[4] = {};
};

/// Bytes of a character outside of ASCII that belongs to formulas: digits, fractions, signs.
size_t formula_character(std::string_view text) {
  if (text.starts_with("\xC2\xBC") || text.starts_with("\xC2\xBD") ||
      text.starts_with("\xC2\xBE") || text.starts_with("\xC2\xB2") ||
      text.starts_with("\xC2\xB3") || text.starts_with("\xC2\xB0") || text.starts_with("π"))
    return 2;
  if (text.starts_with("\xE2\x85") || text.starts_with("\xE2\x88") ||
      text.starts_with("\xE2\x81") ||
      (text.starts_with("\xEF\xBC") && text.size() > 2 &&
       static_cast<unsigned char>(text[2]) >= 0x8B && static_cast<unsigned char>(text[2]) <= 0x99))
    return std::min<size_t>(3, text.size());
  return 0;
}

/// The run of characters of formulas that starts at `at`; empty if none does.
std::string_view chunk_at(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size()) {
    if (static_cast<unsigned char>(text[end]) >= 0x80) {
      const size_t size = formula_character(text.substr(end));
      if (size == 0) break;
      end += size;
    } else if (is_space(text[end])) {
      break;
    } else {
      ++end;
    }
  }
  return text.substr(at, end - at);
}

std::string_view trimmed(std::string_view chunk) {
  while (!chunk.empty() && std::string_view(".,;:!?*\"'`").find(chunk.back()) != npos)
    chunk.remove_suffix(1);
  while (!chunk.empty() && std::string_view(",;:*\"'`").find(chunk.front()) != npos)
    chunk.remove_prefix(1);
  return chunk;
}

bool looks_like_formula(std::string_view chunk) {
  return std::any_of(chunk.begin(), chunk.end(), [](char c) {
    return is_digit(c) || c == '\\' || static_cast<unsigned char>(c) >= 0x80;
  });
}

}  // namespace

std::optional<std::string_view> after_last_marker(std::string_view text) {
  static constexpr std::string_view kWords[] = {
      "answers",  "answer",  "correct option", "correct choice", "réponse", "respuesta", "resposta",
      "risposta", "antwort", "ответ",          "答案",           "答え",    "答",        "الإجابة",
      "الجواب",   "정답"};
  text = text.substr(0, text.find_last_not_of(" \t\r\n*_:") + 1);
  for (size_t at = text.size(); at-- > 0;) {
    // Words start where no letter stands before.
    if (at > 0 && is_letter(text[at]) && is_letter(text[at - 1])) continue;
    if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
    for (const std::string_view word : kWords) {
      if (!starts_with_folded(text.substr(at), word)) continue;
      const size_t begin = announced(text, at + word.size());
      // "The answer is not 5" gives none.
      if (begin != npos && begin < text.size() && !starts_with_folded(text.substr(begin), "not "))
        return text.substr(begin);
    }
  }
  return std::nullopt;
}

std::string_view first_sentence(std::string_view text) {
  FormulaFinder formulas(text);
  for (size_t at = 0; at < text.size();) {
    const size_t end = formulas.end(at);
    if (end != npos) {
      at = end;
      continue;
    }
    if (text[at] == '\n') return text.substr(0, at);
    const bool is_stop = text[at] == '.' && (at + 1 == text.size() || is_space(text[at + 1]));
    const bool is_wide_stop = text.substr(at).starts_with("。");
    if (is_stop || is_wide_stop) return text.substr(0, at);
    ++at;
  }
  return text;
}

std::optional<std::string_view> leading_formula(std::string_view text) {
  std::string_view inner;
  if (FormulaFinder(text).end(0, &inner) == npos) return std::nullopt;
  return inner;
}

std::optional<std::string_view> leading_number(std::string_view text) {
  const std::string_view chunk = trimmed(chunk_at(text, 0));
  if (chunk.empty() || !looks_like_formula(chunk)) return std::nullopt;
  return chunk;
}

std::optional<std::string_view> last_formula(std::string_view text) {
  std::optional<std::string_view> last;
  FormulaFinder formulas(text);
  size_t dollar = 0;
  for (size_t at = 0; at < text.size();) {
    std::string_view inner;
    const size_t end = formulas.end(at, &inner);
    if (end != npos) {
      if (!strip(inner).empty()) last = inner;
      at = end;
      continue;
    }
    if (is_space(text[at])) {
      ++at;
      continue;
    }
    // A formula may open inside of the chunk: "(x=$5$)".
    if (dollar <= at) dollar = std::min(text.find('$', at + 1), text.size());
    const std::string_view part = chunk_at(text.substr(0, dollar), at);
    if (looks_like_formula(part) && !trimmed(part).empty()) last = trimmed(part);
    at += std::max<size_t>(part.size(), 1);
  }
  return last;
}

std::optional<std::string_view> last_number(std::string_view text) {
  std::optional<std::string_view> last;
  for (size_t at = 0; at < text.size();) {
    const std::string_view chunk = chunk_at(text, at);
    const bool has_digit = std::any_of(chunk.begin(), chunk.end(), is_digit);
    if (has_digit && !trimmed(chunk).empty()) last = trimmed(chunk);
    at += std::max<size_t>(chunk.size(), 1);
  }
  return last;
}

}  // namespace moerl::reward
