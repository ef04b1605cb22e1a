#include <algorithm>

#include "reward/math/comparer.h"
#include "reward/math/evaluate_exact.h"
#include "reward/math/real_set.h"

namespace moerl::reward::math {
namespace {

bool is_equality(RelationOp op) {
  return op == RelationOp::kEqual || op == RelationOp::kApproximate;
}

/// The relation seen from the other side; kOther for those without one.
RelationOp mirrored(RelationOp op) {
  switch (op) {
    case RelationOp::kLess:
      return RelationOp::kGreater;
    case RelationOp::kLessEqual:
      return RelationOp::kGreaterEqual;
    case RelationOp::kGreater:
      return RelationOp::kLess;
    case RelationOp::kGreaterEqual:
      return RelationOp::kLessEqual;
    default:
      return op;
  }
}

bool is_inequality(RelationOp op) { return mirrored(op) != op; }

}  // namespace

/// A symbol, f(x), AB, AB:CD, |AB|, (x, y): what answers give a value to.
bool Comparer::is_name(NodeId id) {
  budget_.spend(1);
  const Node& node = tree_[id];
  auto all_names = [&] {
    return std::all_of(node.kids.begin(), node.kids.end(),
                       [&](NodeId kid) { return is_name(kid); });
  };
  switch (node.kind) {
    case Kind::kSymbol:
    case Kind::kCall:
    case Kind::kOpaque:
      return true;
    case Kind::kRatio:
    case Kind::kBrackets:
      return all_names();
    case Kind::kFunction:
      return node.function == Function::kAbs && all_names();
    case Kind::kPower:
      // The denominator of a fraction of names.
      return tree_[node.kids[1]].kind == Kind::kNumber &&
             tree_[node.kids[1]].value == Rational(-1) && is_name(node.kids[0]);
    case Kind::kProduct:
      if (node.kids.size() == 2 && tree_[node.kids[0]].text == "d") return is_name(node.kids[1]);
      // m\angle A
      if (node.kids.size() > 2 && tree_[node.kids[0]].text == "m" &&
          tree_[node.kids[1]].text == "\\angle")
        return true;
      // Segments and areas are written in capitals: AB, [ABC]; 2x and xy are expressions.
      return std::all_of(node.kids.begin(), node.kids.end(), [&](NodeId kid) {
        const Node& factor = tree_[kid];
        if (factor.kind == Kind::kSymbol)
          return factor.text[0] == '\\' || ('A' <= factor.text[0] && factor.text[0] <= 'Z');
        return factor.kind != Kind::kCall && is_name(kid);
      });
    default:
      return false;
  }
}

/// A chain of equalities as its first and last member.
NodeId Comparer::without_middle(NodeId id) {
  const Node node = tree_[id];
  if (node.kind != Kind::kRelation || node.relations.size() < 2) return id;
  if (!std::all_of(node.relations.begin(), node.relations.end(), is_equality)) return id;
  if (!is_name(node.kids[0])) return id;
  const NodeId out = tree_.make(Kind::kRelation, {node.kids.front(), node.kids.back()});
  tree_[out].relations = {RelationOp::kEqual};
  return out;
}

std::optional<NodeId> Comparer::named_value(NodeId id) {
  const Node node = tree_[id];
  const bool is_membership = node.relations.size() == 1 && node.relations[0] == RelationOp::kIn;
  if (is_membership && is_name(node.kids[0])) return node.kids[1];
  if (!std::all_of(node.relations.begin(), node.relations.end(), is_equality)) return std::nullopt;
  NodeId name = node.kids.front(), value = node.kids.back();
  if (node.kids.size() == 2 && !is_name(name) && tree_[value].kind == Kind::kSymbol)
    std::swap(name, value);
  if (is_name(name)) {
    // x = x + 1 gives no value to x.
    if (is_structure(tree_[value].kind)) return value;
    const auto names = symbols_of(tree_, name, budget_), used = symbols_of(tree_, value, budget_);
    const bool is_used = tree_[name].kind == Kind::kSymbol &&
                         std::find(used.begin(), used.end(), tree_[name].text) != used.end();
    if (is_used) return std::nullopt;
    return value;
  }
  // 10^3 = 1000: a computation is worth what it ends with, if it is true.
  for (const NodeId kid : node.kids) {
    if (is_structure(tree_[kid].kind) || !symbols_of(tree_, kid, budget_).empty())
      return std::nullopt;
    if (compare_scalars(tree_, kid, value, options_.decimal_rounding, seed_, budget_) !=
        Sameness::kSame)
      return std::nullopt;
  }
  return value;
}

bool Comparer::relations(NodeId a, NodeId b) {
  a = without_middle(a);
  b = without_middle(b);
  if (relation_links(a, b)) return true;
  const auto same = real_sets(a, b);
  if (!same || !*same) return false;
  // Solution sets say nothing about equations, and are only of the same unknown.
  return symbols_of(tree_, a, budget_) == symbols_of(tree_, b, budget_);
}

/// Each link of one chain is a link of the other.
bool Comparer::relation_links(NodeId a, NodeId b) {
  const size_t n = tree_[a].relations.size();
  if (n != tree_[b].relations.size() || tree_[a].text != tree_[b].text) return false;
  std::vector<bool> is_used(n);
  for (size_t i = 0; i < n; ++i) {
    bool is_found = false;
    for (size_t j = 0; j < n && !is_found; ++j) {
      if (is_used[j] || !same_link(a, i, b, j)) continue;
      is_used[j] = is_found = true;
    }
    if (!is_found) return false;
  }
  return true;
}

bool Comparer::same_link(NodeId a, size_t i, NodeId b, size_t j) {
  const Node x = tree_[a], y = tree_[b];
  RelationOp op = x.relations[i];
  if (is_equality(op)) op = RelationOp::kEqual;
  RelationOp other = y.relations[j];
  if (is_equality(other)) other = RelationOp::kEqual;
  const NodeId left = x.kids[i], right = x.kids[i + 1];
  if (op == RelationOp::kCongruent && other == op && x.kids.size() == 3 && y.kids.size() == 3 &&
      !equal(x.kids[2], y.kids[2]))
    return false;
  if (op == other && equal(left, y.kids[j]) && equal(right, y.kids[j + 1])) return true;
  const bool is_symmetric =
      op == RelationOp::kEqual || op == RelationOp::kNotEqual || op == RelationOp::kCongruent;
  const bool has_mirror = is_symmetric || is_inequality(op);
  if (has_mirror && mirrored(op) == other && equal(left, y.kids[j + 1]) && equal(right, y.kids[j]))
    return true;
  if (op == RelationOp::kCongruent || !has_mirror) return false;
  for (const NodeId kid : {left, right, y.kids[j], y.kids[j + 1]})
    if (is_structure(tree_[kid].kind) || infinity_sign(tree_, kid) != 0 ||
        contains(tree_, kid, Kind::kPlusMinus, budget_))
      return false;
  auto difference = [&](NodeId first, NodeId second) {
    return tree_.make(Kind::kSum, {first, tree_.make(Kind::kProduct, {tree_.number(-1), second})});
  };
  // Differences of numbers are all proportional.
  if (symbols_of(tree_, y.kids[j], budget_).empty() &&
      symbols_of(tree_, y.kids[j + 1], budget_).empty())
    return false;
  const int sign =
      proportional_sign(tree_, difference(left, right), difference(y.kids[j], y.kids[j + 1]),
                        is_symmetric, seed_, budget_);
  if (sign == 0) return false;
  return is_symmetric ? op == other : other == (sign > 0 ? op : mirrored(op));
}

}  // namespace moerl::reward::math
