#include "reward/math/equivalence.h"

#include "common/check.h"
#include "reward/math/answer.h"
#include "reward/math/comparer.h"

namespace moerl::reward::math {
namespace {

/// Words that a gold may have outside of mathematics and still be an answer and not a sentence.
constexpr size_t kMaxPlainWords = 3;

/// FNV-1a of both texts, the smaller one first.
uint64_t seed_of(std::string_view a, std::string_view b) {
  if (b < a) std::swap(a, b);
  uint64_t hash = 0xCBF29CE484222325u;
  auto add = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    hash = (hash ^ 0xFFu) * 0x100000001B3u;
  };
  add(a);
  add(b);
  return hash;
}

LexerOptions lexer_options(const MathOptions& options) { return {options.decimal_comma}; }

/// @throws ParseError, LimitError.
Answer parse_gold(std::string_view gold, const MathOptions& options, Tree& tree) {
  Answer answer = parse_answer(gold, lexer_options(options), tree);
  if (answer.is_plain_prose && answer.num_words > kMaxPlainWords)
    throw ParseError("it is a sentence: write it as \\text{...} if it is the answer");
  return answer;
}

}  // namespace

Comparison compare_answers(std::string_view gold, std::string_view prediction,
                           const MathOptions& options) {
  Tree tree;
  Answer right, answer;
  try {
    right = parse_gold(gold, options, tree);
  } catch (const ParseError& error) {
    return {Outcome::kGoldUnparsable, error.what()};
  } catch (const LimitError& error) {
    return {Outcome::kGoldUnparsable, error.what()};
  }
  try {
    answer = parse_answer(prediction, lexer_options(options), tree);
    if (right.normal == answer.normal) return {Outcome::kEqual, "normal form"};
    tree.begin_answer();
    StepBudget budget;
    const bool in_order = right.normal < answer.normal;
    Comparer comparer(tree, options, seed_of(right.normal, answer.normal), budget);
    const bool is_equal = in_order ? comparer.equal(right.root, answer.root)
                                   : comparer.equal(answer.root, right.root);
    return {is_equal ? Outcome::kEqual : Outcome::kDifferent, is_equal ? "value" : ""};
  } catch (const ParseError& error) {
    return {Outcome::kUnparsable, error.what()};
  } catch (const LimitError& error) {
    return {Outcome::kLimit, error.what()};
  }
}

std::string gold_problem(std::string_view gold, const MathOptions& options) {
  Tree tree;
  try {
    parse_gold(gold, options, tree);
    return {};
  } catch (const ParseError& error) {
    return error.what();
  } catch (const LimitError& error) {
    return error.what();
  }
}

AnswerType answer_type(std::string_view text, const MathOptions& options) {
  Tree tree;
  try {
    const Node& node = tree[parse_answer(text, lexer_options(options), tree).root];
    switch (node.kind) {
      case Kind::kList:
      case Kind::kSet:
        return AnswerType::kSeveral;
      case Kind::kText:
        return AnswerType::kWords;
      case Kind::kChoice:
        return AnswerType::kChoice;
      case Kind::kSymbol:
        return node.text.size() == 1 && 'A' <= node.text[0] && node.text[0] <= 'Z'
                   ? AnswerType::kChoice
                   : AnswerType::kValue;
      default:
        return AnswerType::kValue;
    }
  } catch (const ParseError&) {
    return AnswerType::kNone;
  } catch (const LimitError&) {
    return AnswerType::kNone;
  }
}

}  // namespace moerl::reward::math
