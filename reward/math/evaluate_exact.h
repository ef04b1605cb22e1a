#pragma once
#include <optional>

#include "reward/math/expression.h"

namespace moerl::reward::math {

/// The value of a scalar as an exact rational; empty if it is irrational, undefined, larger than
/// kMaxBits, a structure, or holds a symbol that the environment has no value for. The size of a
/// power, factorial or product is estimated before it is computed.
std::optional<Rational> evaluate_exact(const Tree& tree, NodeId id, StepBudget& budget,
                                       const Environment& environment = {});

}  // namespace moerl::reward::math
