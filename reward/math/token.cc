#include "reward/math/token.h"

namespace moerl::reward::math {

std::string normal_form(const std::vector<Token>& tokens) {
  std::string out;
  bool was_word = false;
  for (const Token& token : tokens) {
    const bool is_word = token.kind == TokenKind::kWord || token.kind == TokenKind::kCommand ||
                         token.kind == TokenKind::kNumber;
    if (is_word && was_word) out += ' ';
    if (token.kind == TokenKind::kCommand) out += '\\';
    if (token.kind == TokenKind::kBegin) out += "\\begin ";
    if (token.kind == TokenKind::kEnvironmentEnd) out += "\\end ";
    out += token.text;
    was_word = is_word;
  }
  return out;
}

}  // namespace moerl::reward::math
