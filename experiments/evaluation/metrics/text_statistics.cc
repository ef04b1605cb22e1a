#include "experiments/evaluation/metrics/text_statistics.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

namespace moerl::eval {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

constexpr std::array<std::string_view, 14> kReflections = {"wait",
                                                           "hmm",
                                                           "let me check",
                                                           "let me verify",
                                                           "let me re-check",
                                                           "let me recheck",
                                                           "double-check",
                                                           "double check",
                                                           "to verify",
                                                           "let me reconsider",
                                                           "on second thought",
                                                           "等等",
                                                           "等一下",
                                                           "检查一下"};
constexpr std::array<std::string_view, 14> kBacktracks = {
    "try again",    "start over",    "go back",          "another approach",
    "another way",  "alternatively", "let me try",       "a different approach",
    "that's wrong", "that is wrong", "that's not right", "mistake",
    "重新",         "换一种"};

bool is_word_byte(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u >= 'a' && u <= 'z') || (u >= '0' && u <= '9');
}

/// Occurrences in lower-case text; a phrase of ASCII letters must not be part of a longer word.
int64_t count_phrase(std::string_view text, std::string_view phrase) {
  int64_t count = 0;
  for (size_t at = text.find(phrase); at != std::string_view::npos;) {
    const size_t end = at + phrase.size();
    const bool starts = at == 0 || !is_word_byte(phrase[0]) || !is_word_byte(text[at - 1]);
    const bool ends =
        end == text.size() || !is_word_byte(phrase.back()) || !is_word_byte(text[end]);
    count += starts && ends;
    at = text.find(phrase, end);
  }
  return count;
}

/// Text with code fences and dollar formulas blanked.
std::string without_formulas(std::string_view text) {
  std::string out(text);
  const auto blank = [&](std::string_view mark) {
    for (size_t at = out.find(mark); at != std::string::npos;) {
      const size_t end = out.find(mark, at + mark.size());
      if (end == std::string::npos) break;
      std::fill(out.begin() + static_cast<ptrdiff_t>(at),
                out.begin() + static_cast<ptrdiff_t>(end + mark.size()), ' ');
      at = out.find(mark, end + mark.size());
    }
  };
  for (std::string_view mark : {"```", "$$", "$"}) blank(mark);
  return out;
}

bool is_east_asian(UScriptCode script) {
  return script == USCRIPT_HAN || script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ||
         script == USCRIPT_HANGUL || script == USCRIPT_BOPOMOFO;
}

}  // namespace

SplitResponse split_response(std::string_view response, bool prefix_open_think) {
  const size_t close = response.rfind(kClose);
  size_t end = close == std::string_view::npos ? 0 : close + kClose.size();
  const bool opens_again = response.find(kOpen, end) != std::string_view::npos;
  if (opens_again || (prefix_open_think && end == 0)) end = response.size();
  return {response.substr(0, end), response.substr(end)};
}

bool leaves_think_open(std::string_view prompt) {
  const size_t open = prompt.rfind(kOpen), close = prompt.rfind(kClose);
  if (open == std::string_view::npos) return false;
  if (close != std::string_view::npos && close > open) return false;
  // A prompt may speak of the tags; only one that ends with an open one leaves it open.
  return prompt.substr(open + kOpen.size()).find_first_not_of(" \t\r\n") == std::string_view::npos;
}

ReflectionCounts count_reflections(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  ReflectionCounts counts;
  for (std::string_view phrase : kReflections) counts.reflections += count_phrase(lower, phrase);
  for (std::string_view phrase : kBacktracks) counts.backtracks += count_phrase(lower, phrase);
  return counts;
}

double minority_script_share(std::string_view text) {
  constexpr double kLettersOfAWord = 5;
  const std::string plain = without_formulas(text);
  std::map<UScriptCode, double> letters;
  double all = 0;
  bool in_command = false;
  const auto size = static_cast<int32_t>(plain.size());
  for (int32_t i = 0; i < size;) {
    UChar32 c = 0;
    U8_NEXT(plain.data(), i, size, c);
    if (c == '\\') in_command = true;
    if (c < 0 || !u_isalpha(c)) {
      if (c != '\\') in_command = false;
      continue;
    }
    if (in_command && c < 0x80) continue;
    in_command = false;
    UErrorCode error = U_ZERO_ERROR;
    const UScriptCode script = uscript_getScript(c, &error);
    if (U_FAILURE(error) || script == USCRIPT_COMMON || script == USCRIPT_INHERITED) continue;
    const double weight = is_east_asian(script) ? kLettersOfAWord : 1;
    letters[is_east_asian(script) ? USCRIPT_HAN : script] += weight;
    all += weight;
  }
  double most = 0;
  for (const auto& [script, weight] : letters) most = std::max(most, weight);
  return all == 0 ? 0 : (all - most) / all;
}

}  // namespace moerl::eval
