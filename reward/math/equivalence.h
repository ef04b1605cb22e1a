#pragma once
#include <string>
#include <string_view>

#include "reward/math/compare_scalars.h"

namespace moerl::reward::math {

/// Every leniency of a comparison, by name.
struct MathOptions {
  DecimalRounding decimal_rounding = DecimalRounding::kRelative;
  /// 40% equals 40 where the other side has no percent sign and is above 1; it always equals 0.4.
  bool optional_percent = true;
  /// 5 cm equals 5. Two units must always be the same.
  bool optional_units = true;
  /// 25_8 equals 25.
  bool optional_base = false;
  /// 1,2 equals 2,1: lists without brackets are sets.
  bool unordered_lists = true;
  /// (1,2) equals 1,2 in this order.
  bool optional_brackets = true;
  /// x=5 equals 5, x\in S equals S.
  bool optional_name = true;
  /// 0<x<1 equals (0,1).
  bool sets_as_relations = true;
  /// 1,5 is 1.5.
  bool decimal_comma = false;
};

enum class Outcome {
  kEqual,
  kDifferent,       ///< proved, or not shown equal within the work that is allowed
  kGoldUnparsable,  ///< the gold is not an answer of the grammar, or exceeds the limits
  kUnparsable,      ///< the prediction is not an answer of the grammar
  kLimit,           ///< the prediction, or the work of comparing it, exceeds the limits
};

struct Comparison {
  Outcome outcome = Outcome::kDifferent;
  /// For kEqual "normal form" or "value"; for errors their text.
  std::string detail;
};

/// Compares two answers without the prose around them. A pure function of its arguments: the same
/// on every thread and machine, and but for the two unparsable outcomes the same when gold and
/// prediction change places.
Comparison compare_answers(std::string_view gold, std::string_view prediction,
                           const MathOptions& options = {});

/// @return why the gold cannot be used; empty if it can.
std::string gold_problem(std::string_view gold, const MathOptions& options = {});

/// What an answer is, roughly.
enum class AnswerType {
  kNone,     ///< not of the grammar, or beyond the limits
  kValue,    ///< mathematics
  kSeveral,  ///< a list or a set
  kWords,
  kChoice,  ///< "(D) 42", or one capital letter
};
AnswerType answer_type(std::string_view answer, const MathOptions& options = {});

}  // namespace moerl::reward::math
