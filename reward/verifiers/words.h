#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::reward {

/// A word of a text.
struct Word {
  size_t begin = 0, end = 0;  ///< bytes of the text
  int32_t script = 0;         ///< ICU's UScriptCode of its first letter
  int32_t num_letters = 0;    ///< letters and marks
};

/// The words of a text by Unicode's word boundaries (UAX 29, with ICU's dictionaries for scripts
/// that are written without spaces) that hold a letter; numbers and signs are none. The same on
/// every machine and thread: the rules of the root locale.
/// @param text  well formed UTF-8, at most 2^31 - 1 bytes.
std::vector<Word> words_of(std::string_view text);

/// What stands between white space, in lower case; a piece with characters of a script that is
/// written without spaces is divided further, at word boundaries. Any bytes.
std::vector<std::string> lower_case_words(std::string_view text);

/// The text in lower case by Unicode's rules, whatever the locale. Bytes that are no UTF-8 become
/// U+FFFD.
std::string to_lower_case(std::string_view bytes);

}  // namespace moerl::reward
