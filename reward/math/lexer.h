#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "reward/math/token.h"

namespace moerl::reward::math {

struct LexerOptions {
  /// "1,5" is 1.5 where the comma does not separate thousands.
  bool decimal_comma = false;
};

/// Splits an answer, LaTeX or plain, into tokens; the last one is kEnd. Everything that carries no
/// meaning is gone: dollar signs, \left and \right, sizes, spacing and font commands, boxes and
/// markdown emphasis. Spellings are unified: Unicode characters, full-width forms and plain words
/// become the command that they mean, \leq and U+2264 and <= become "<=".
///
/// A comma inside a run of digits is a thousands separator if all groups after the first have
/// exactly three digits, and no bracket is open or a group starts with 0: 1,234 is a number,
/// (1,234) is a pair. `{,}`, `,\!`, `\,` and a single space separate thousands anywhere.
///
/// Linear in the length of the text. @throws LimitError; ParseError for \begin without a name.
std::vector<Token> tokenize(std::string_view text, const LexerOptions& options = {});

}  // namespace moerl::reward::math
