#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moerl::reward {

/// A language that texts can be held against.
struct TargetLanguage {
  std::string code;  ///< ISO 639-1, such as "en" or "zh"
};

/// @return empty optional if the code is not one of known_languages().
std::optional<TargetLanguage> find_language(std::string_view code);
/// The known codes, separated by commas.
std::string known_languages();

/// How much of a text is in a language.
struct LanguageCount {
  int64_t num_words = 0;
  int64_t num_target = 0;  ///< of these, in the target language
};

/// Counts the words of prose. What belongs to no language is dropped first: mathematics between
/// dollar signs, \( \), \[ \], LaTeX commands, code between backticks, URLs, tags, numbers, and
/// single Latin letters where the target is not written in Latin letters.
///
/// A word counts for the target if it is written in the target's script and its window is not
/// in another language. Windows are sentences, joined until they have eight words; CLD2 names the
/// language of a window, and is believed where it calls its own answer reliable.
/// @param text  any bytes. Linear in its length; a pure function, the same on every machine.
LanguageCount count_language(std::string_view text, const TargetLanguage& target);

}  // namespace moerl::reward
