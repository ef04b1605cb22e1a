#include <algorithm>

#include "reward/math/comparer.h"
#include "reward/math/real_set.h"

namespace moerl::reward::math {

bool Comparer::brackets(NodeId a, NodeId b) {
  const std::vector<NodeId> x = tree_[a].kids, y = tree_[b].kids;
  if (x.size() != y.size()) return false;
  if (x.size() == 2 && tree_[a].text != tree_[b].text) {
    const auto same = intervals(a, b);
    return same && *same;
  }
  return in_order(x, y);
}

bool Comparer::in_order(const std::vector<NodeId>& a, const std::vector<NodeId>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i])) return false;
  return true;
}

/// Each element of one is in the other.
bool Comparer::unordered(const std::vector<NodeId>& a, const std::vector<NodeId>& b) {
  if (a.size() > kMaxElements || b.size() > kMaxElements)
    throw LimitError("a list has too many elements");
  std::vector<bool> is_found(b.size());
  for (const NodeId x : a) {
    size_t j = 0;
    while (j < b.size() && !equal(x, b[j])) ++j;
    if (j == b.size()) return false;
    is_found[j] = true;
  }
  // What is left of b may be there twice.
  for (size_t j = 0; j < b.size(); ++j) {
    const auto is_same = [&](NodeId x) { return equal(x, b[j]); };
    if (!is_found[j] && std::none_of(a.begin(), a.end(), is_same)) return false;
  }
  return true;
}

NodeId Comparer::matrix_like(NodeId model, std::vector<NodeId> cells) {
  const uint16_t num_columns = tree_[model].num_columns;
  const NodeId id = tree_.make(Kind::kMatrix, std::move(cells));
  tree_[id].num_columns = num_columns;
  return id;
}

/// A matrix, or a sum or multiple of matrices, as one matrix.
std::optional<NodeId> Comparer::resolve_matrix(NodeId id) {
  budget_.spend(1);
  const Node node = tree_[id];
  if (node.kind == Kind::kMatrix) return id;
  if (node.kind != Kind::kSum && node.kind != Kind::kProduct) return std::nullopt;
  if (!contains(tree_, id, Kind::kMatrix, budget_)) return std::nullopt;
  std::optional<NodeId> total;
  std::vector<NodeId> factors;
  for (const NodeId kid : node.kids) {
    const auto next = resolve_matrix(kid);
    if (!next && node.kind == Kind::kSum) return std::nullopt;
    if (!next) {
      factors.push_back(kid);
      continue;
    }
    if (!total) {
      total = next;
      continue;
    }
    const std::vector<NodeId> x = tree_[*total].kids, y = tree_[*next].kids;
    if (node.kind == Kind::kProduct || x.size() != y.size() ||
        tree_[*total].num_columns != tree_[*next].num_columns)
      return std::nullopt;
    std::vector<NodeId> cells;
    for (size_t i = 0; i < x.size(); ++i) cells.push_back(tree_.make(Kind::kSum, {x[i], y[i]}));
    total = matrix_like(*total, std::move(cells));
  }
  if (!total || factors.empty()) return total;
  std::vector<NodeId> cells;
  const std::vector<NodeId> old_cells = tree_[*total].kids;
  for (const NodeId cell : old_cells) {
    std::vector<NodeId> product = factors;
    product.push_back(cell);
    cells.push_back(tree_.make(Kind::kProduct, std::move(product)));
  }
  return matrix_like(*total, std::move(cells));
}

bool Comparer::matrices(NodeId a, NodeId b) {
  if (tree_[a].num_columns != tree_[b].num_columns) return false;
  const std::vector<NodeId> x = tree_[a].kids, y = tree_[b].kids;
  return in_order(x, y);
}

/// Two intervals, of which the end points may hold symbols.
std::optional<bool> Comparer::intervals(NodeId a, NodeId b) {
  const bool mixed = (tree_[a].kind == Kind::kRelation) != (tree_[b].kind == Kind::kRelation);
  if (mixed && !options_.sets_as_relations) return std::nullopt;
  const auto x = to_interval(tree_, a, budget_), y = to_interval(tree_, b, budget_);
  if (!x || !y) return std::nullopt;
  if (x->has_low != y->has_low || x->has_high != y->has_high) return false;
  if (x->closed_low != y->closed_low || x->closed_high != y->closed_high) return false;
  return (!x->has_low || equal(x->low, y->low)) && (!x->has_high || equal(x->high, y->high));
}

std::optional<bool> Comparer::real_sets(NodeId a, NodeId b) {
  const bool mixed = (tree_[a].kind == Kind::kRelation) != (tree_[b].kind == Kind::kRelation);
  if (mixed && !options_.sets_as_relations) return std::nullopt;
  const auto x = to_real_set(tree_, a, budget_);
  if (!x) return std::nullopt;
  const auto y = to_real_set(tree_, b, budget_);
  if (!y) return std::nullopt;
  return same_set(tree_, *x, *y, budget_);
}

std::optional<std::vector<NodeId>> Comparer::assigned_values(NodeId id) {
  const Node& node = tree_[id];
  if (node.kind != Kind::kList) return std::nullopt;
  std::vector<NodeId> values;
  std::vector<std::string> names;
  for (const NodeId kid : node.kids) {
    const Node& relation = tree_[kid];
    if (relation.kind != Kind::kRelation || relation.relations.size() != 1 ||
        relation.relations[0] != RelationOp::kEqual ||
        tree_[relation.kids[0]].kind != Kind::kSymbol)
      return std::nullopt;
    names.push_back(tree_[relation.kids[0]].text);
    values.push_back(relation.kids[1]);
  }
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end()) return std::nullopt;
  return values;
}

}  // namespace moerl::reward::math
