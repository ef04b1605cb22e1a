#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moerl::reward::math {

enum class TokenKind {
  kEnd,
  kNumber,   ///< "12", "3.50", ".5", "5.", "1e3": thousands separators taken out
  kWord,     ///< letters: a symbol, a product of symbols, a function's name, a word
  kCommand,  ///< what a LaTeX command or a mathematical character names, such as "frac", "pi"
  kSymbol,   ///< + - * / ^ _ ( ) [ ] { } | , ; : ! ' % and "\{" "\}" "<=" ">=" "!=" "~~" "=="
  kBegin,    ///< \begin{...}, the text is the environment's name
  kEnvironmentEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  /// White space or a LaTeX space stands before it.
  bool has_space = false;
  /// It stands inside \text{...} or a like command.
  bool is_text = false;

  bool is(std::string_view symbol) const { return kind == TokenKind::kSymbol && text == symbol; }
  bool is_command(std::string_view name) const {
    return kind == TokenKind::kCommand && text == name;
  }
  bool is_word(std::string_view word) const { return kind == TokenKind::kWord && text == word; }
};

/// The tokens written as text in one way: equal for answers that differ in nothing but spelling.
std::string normal_form(const std::vector<Token>& tokens);

}  // namespace moerl::reward::math
