#include "reward/verifiers/words.h"

#include <unicode/brkiter.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>

#include <memory>
#include <stdexcept>

#include "common/check.h"
#include "reward/utf8.h"

namespace moerl::reward {
namespace {

void check_icu(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) throw std::runtime_error(concat("ICU: ", what, ": ", u_errorName(status)));
}

/// A word boundary iterator over well formed UTF-8. Making one loads rules, so each thread keeps
/// its own.
icu::BreakIterator& boundaries_of(std::string_view text) {
  thread_local std::unique_ptr<icu::BreakIterator> iterator = [] {
    UErrorCode status = U_ZERO_ERROR;
    std::unique_ptr<icu::BreakIterator> made(
        icu::BreakIterator::createWordInstance(icu::Locale::getRoot(), status));
    check_icu(status, "word boundaries");
    return made;
  }();
  UErrorCode status = U_ZERO_ERROR;
  UText* utext = utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status);
  iterator->setText(utext, status);  // makes a shallow clone: `text` must live on, utext need not
  utext_close(utext);
  check_icu(status, "text");
  return *iterator;
}

/// The character at `at`, which moves past it.
UChar32 next_character(std::string_view text, size_t& at) {
  UChar32 c;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  auto i = static_cast<int32_t>(at);
  U8_NEXT(bytes, i, static_cast<int32_t>(text.size()), c);
  at = static_cast<size_t>(i);
  return c;
}

bool is_written_without_spaces(UChar32 c) {
  UErrorCode status = U_ZERO_ERROR;
  switch (uscript_getScript(c, &status)) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_THAI:
    case USCRIPT_LAO:
    case USCRIPT_KHMER:
    case USCRIPT_MYANMAR:
      return true;
    default:
      return false;
  }
}

std::string lower(std::string_view text) {
  std::string out;
  icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())))
      .toLower(icu::Locale::getRoot())
      .toUTF8String(out);
  return out;
}

void add_piece(std::string_view piece, bool needs_boundaries, std::vector<std::string>& out) {
  if (piece.empty()) return;
  if (!needs_boundaries) return out.push_back(lower(piece));
  icu::BreakIterator& boundaries = boundaries_of(piece);
  int32_t begin = boundaries.first();
  for (int32_t end = boundaries.next(); end != icu::BreakIterator::DONE; end = boundaries.next()) {
    out.push_back(
        lower(piece.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin))));
    begin = end;
  }
}

}  // namespace

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  icu::BreakIterator& boundaries = boundaries_of(text);
  int32_t begin = boundaries.first();
  for (int32_t end = boundaries.next(); end != icu::BreakIterator::DONE; end = boundaries.next()) {
    Word word{static_cast<size_t>(begin), static_cast<size_t>(end)};
    begin = end;
    for (size_t at = word.begin; at < word.end;) {
      const UChar32 c = next_character(text, at);
      if (!u_isalpha(c)) continue;
      UErrorCode status = U_ZERO_ERROR;
      const UScriptCode script = uscript_getScript(c, &status);
      // The prolonged sound mark and the like belong to the script of their neighbours.
      const bool is_shared = script == USCRIPT_COMMON || script == USCRIPT_INHERITED;
      if (word.num_letters == 0 || word.script == USCRIPT_COMMON)
        word.script = is_shared ? USCRIPT_COMMON : script;
      ++word.num_letters;
    }
    if (word.num_letters > 0) words.push_back(word);
  }
  return words;
}

std::string to_lower_case(std::string_view bytes) { return lower(to_valid_utf8(bytes)); }

std::vector<std::string> lower_case_words(std::string_view bytes) {
  const std::string text = to_valid_utf8(bytes);
  std::vector<std::string> words;
  size_t begin = 0;
  bool needs_boundaries = false;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    const UChar32 c = next_character(text, at);
    if (u_isUWhiteSpace(c)) {
      add_piece(std::string_view(text).substr(begin, here - begin), needs_boundaries, words);
      begin = at;
      needs_boundaries = false;
    } else if (is_written_without_spaces(c)) {
      needs_boundaries = true;
    }
  }
  add_piece(std::string_view(text).substr(begin), needs_boundaries, words);
  return words;
}

}  // namespace moerl::reward
