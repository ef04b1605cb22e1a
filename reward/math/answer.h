#pragma once
#include <string>
#include <string_view>

#include "reward/math/expression.h"
#include "reward/math/lexer.h"

namespace moerl::reward::math {

/// One answer, parsed.
struct Answer {
  NodeId root = 0;
  /// See normal_form.
  std::string normal;
  /// It is words outside of any mathematics: a sentence, perhaps.
  bool is_plain_prose = false;
  size_t num_words = 0;
};

/// Parses an answer into `tree`. What is no mathematics but holds words is a kText: "odd",
/// "\text{Evelyn}", "odd $n$"; "(D) Alina" and "D. 42" are a kChoice.
/// @throws ParseError, LimitError.
Answer parse_answer(std::string_view text, const LexerOptions& options, Tree& tree);

}  // namespace moerl::reward::math
