#pragma once
#include <optional>
#include <vector>

#include "reward/math/expression.h"

namespace moerl::reward::math {

/// From low to high; infinite where has_low or has_high is false. A point is [x, x].
struct Interval {
  bool has_low = false, has_high = false;
  bool closed_low = false, closed_high = false;
  NodeId low = 0, high = 0;
};

/// A union of intervals of the real line, in order, disjoint and not adjacent.
using RealSet = std::vector<Interval>;

/// What a structure means as a set of real numbers: an interval, a finite set, unions,
/// intersections and differences of them, the solutions of inequalities in one symbol ("1 < x <=
/// 3", "x < 1 or x > 3", "x != 5"), "x in S", {x | ...}, R. Empty if it is none, or if the order of
/// two end points is not known. @throws LimitError.
std::optional<RealSet> to_real_set(const Tree& tree, NodeId id, StepBudget& budget);

/// @return empty optional if the order of two end points is not known.
std::optional<bool> same_set(const Tree& tree, const RealSet& a, const RealSet& b,
                             StepBudget& budget);

/// One interval without any use of order: brackets, or a chain around a lone symbol. The end points
/// may hold symbols.
std::optional<Interval> to_interval(const Tree& tree, NodeId id, StepBudget& budget);

}  // namespace moerl::reward::math
