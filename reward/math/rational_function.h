#pragma once
#include <string>
#include <vector>

#include "reward/math/ball.h"
#include "reward/math/expression.h"

namespace moerl::reward::math {

/// How two expressions that are quotients of polynomials with rational coefficients relate. Decided
/// exactly, by cross-multiplication in FLINT's fmpq_mpoly.
struct RationalFunctions {
  /// kUnknown if one of them is no such quotient, is undefined or has too many terms.
  Sameness same = Sameness::kUnknown;
  /// For a known answer, that one vanishes where the other does: their numerators are multiples.
  bool same_zeros = false;
  /// Sign of c if a = c * b for a rational c; 0 if not.
  int proportional_sign = 0;
};

/// @param symbols  the names of all symbols of a and b.
RationalFunctions compare_rational_functions(const Tree& tree, NodeId a, NodeId b,
                                             const std::vector<std::string>& symbols,
                                             StepBudget& budget);

}  // namespace moerl::reward::math
