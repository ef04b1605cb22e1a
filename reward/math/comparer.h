#pragma once
#include <optional>
#include <vector>

#include "reward/math/equivalence.h"
#include "reward/math/expression.h"

namespace moerl::reward::math {

/// Compares two subtrees by what they are. Every method is symmetric in a and b as to its meaning;
/// compare_answers puts the two in a fixed order so that limits are met alike too.
class Comparer {
 public:
  Comparer(Tree& tree, const MathOptions& options, uint64_t seed, StepBudget& budget)
      : tree_(tree), options_(options), seed_(seed), budget_(budget) {}

  bool equal(NodeId a, NodeId b);

 private:
  // comparer.cc
  bool equal_kinds(NodeId a, NodeId b);
  bool scalars(NodeId a, NodeId b);
  std::optional<bool> quantities(NodeId a, NodeId b);
  bool texts(NodeId a, NodeId b);
  bool based(NodeId a, NodeId b);
  bool ratios(NodeId a, NodeId b);
  /// The two values of an expression with +-; empty if it has none.
  std::vector<NodeId> elements(NodeId id);
  std::optional<std::vector<NodeId>> plus_minus(NodeId id);
  NodeId choose_sign(NodeId id, bool is_upper);

  // compare_structures.cc
  bool brackets(NodeId a, NodeId b);
  bool in_order(const std::vector<NodeId>& a, const std::vector<NodeId>& b);
  bool unordered(const std::vector<NodeId>& a, const std::vector<NodeId>& b);
  bool matrices(NodeId a, NodeId b);
  std::optional<NodeId> resolve_matrix(NodeId id);
  NodeId matrix_like(NodeId model, std::vector<NodeId> cells);
  std::optional<bool> real_sets(NodeId a, NodeId b);
  std::optional<bool> intervals(NodeId a, NodeId b);
  /// p=5, q=2 as (5, 2); empty if the list is no such assignment of different symbols.
  std::optional<std::vector<NodeId>> assigned_values(NodeId id);

  // compare_relations.cc
  bool relations(NodeId a, NodeId b);
  bool relation_links(NodeId a, NodeId b);
  bool same_link(NodeId a, size_t i, NodeId b, size_t j);
  /// The value that a relation gives to what it names: x=5, x\in S, |AB|=1, 10^3=1000.
  std::optional<NodeId> named_value(NodeId id);
  bool is_name(NodeId id);
  NodeId without_middle(NodeId id);

  Tree& tree_;
  const MathOptions& options_;
  uint64_t seed_;
  StepBudget& budget_;
};

}  // namespace moerl::reward::math
