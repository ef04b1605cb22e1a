#pragma once
#include "reward/math/ball.h"
#include "reward/math/expression.h"

namespace moerl::reward::math {

/// When a decimal stands for a number that it is not equal to.
enum class DecimalRounding {
  kOff,
  /// It differs from a number without a finite decimal by at most 1e-6 of the larger one.
  kRelative,
  /// As kRelative, or it has three significant digits and is the other number rounded to its
  /// digits.
  kDigits,
};

/// Sameness of two scalars, cheapest test first: exact rationals; quotients of polynomials; balls
/// for constants; seeded probing for expressions with symbols.
///
/// Probing evaluates both at points drawn from `seed`, at least 4 of at most 24, and wants them
/// equal wherever both are real; so sqrt(1/n) = 1/sqrt(n), but |x| is not x. Expressions that hold
/// i are compared as complex numbers.
Sameness compare_scalars(const Tree& tree, NodeId a, NodeId b, DecimalRounding rounding,
                         uint64_t seed, StepBudget& budget);

/// How a and b, the differences of the sides of two relations, relate: for equations it is enough
/// that one is a multiple of the other, for inequalities the factor must be positive.
/// @return sign of c in a = c * b; 0 if there is none or it is not known.
int proportional_sign(const Tree& tree, NodeId a, NodeId b, bool zeros_only, uint64_t seed,
                      StepBudget& budget);

/// +1 or -1 for plus and minus infinity, else 0.
int infinity_sign(const Tree& tree, NodeId id);

}  // namespace moerl::reward::math
