#include "reward/math/comparer.h"

#include <algorithm>

#include "reward/math/evaluate_exact.h"
#include "reward/math/numerals.h"

namespace moerl::reward::math {
namespace {

bool is_list_like(Kind kind) { return kind == Kind::kList || kind == Kind::kSet; }
bool is_words(Kind kind) { return kind == Kind::kText || kind == Kind::kChoice; }

}  // namespace

bool Comparer::equal(NodeId a, NodeId b) {
  budget_.spend(4);
  if (same_structure(tree_, a, b, budget_)) return true;
  // A list of one, {x}, is x.
  if (is_list_like(tree_[a].kind) && tree_[a].kids.size() == 1 && !is_list_like(tree_[b].kind))
    return equal(tree_[a].kids[0], b);
  if (is_list_like(tree_[b].kind) && tree_[b].kids.size() == 1 && !is_list_like(tree_[a].kind))
    return equal(a, tree_[b].kids[0]);
  if (is_words(tree_[a].kind) || is_words(tree_[b].kind)) return texts(a, b);
  const bool is_relation_a = tree_[a].kind == Kind::kRelation;
  const bool is_relation_b = tree_[b].kind == Kind::kRelation;
  if (is_relation_a && is_relation_b) return relations(a, b);
  if (is_relation_a != is_relation_b && options_.optional_name) {
    const auto value = named_value(is_relation_a ? a : b);
    if (value && is_relation_a) return equal(*value, b);
    if (value) return equal(a, *value);
  }
  return equal_kinds(a, b);
}

bool Comparer::equal_kinds(NodeId a, NodeId b) {
  const bool is_structure_a = is_structure(tree_[a].kind);
  const bool is_structure_b = is_structure(tree_[b].kind);
  if (!is_structure_a || !is_structure_b) {
    const auto values_a = is_structure_a ? std::nullopt : plus_minus(a);
    const auto values_b = is_structure_b ? std::nullopt : plus_minus(b);
    if (values_a || values_b) {
      auto values = [&](NodeId id, const auto& found) {
        if (found) return *found;
        return is_list_like(tree_[id].kind) ? elements(id) : std::vector<NodeId>{id};
      };
      return unordered(values(a, values_a), values(b, values_b));
    }
  }
  if (!is_structure_a && !is_structure_b) {
    const auto matrix_a = resolve_matrix(a), matrix_b = resolve_matrix(b);
    if (matrix_a || matrix_b) return matrix_a && matrix_b && matrices(*matrix_a, *matrix_b);
    return scalars(a, b);
  }
  const auto matrix_a = resolve_matrix(a), matrix_b = resolve_matrix(b);
  if (matrix_a && matrix_b) return matrices(*matrix_a, *matrix_b);
  if (!is_structure_a || !is_structure_b) return false;

  const Kind kind_a = tree_[a].kind, kind_b = tree_[b].kind;
  if (kind_a == Kind::kBrackets && kind_b == Kind::kBrackets) return brackets(a, b);
  if (kind_a == Kind::kBrackets || kind_b == Kind::kBrackets) {
    const NodeId tuple = kind_a == Kind::kBrackets ? a : b,
                 other = kind_a == Kind::kBrackets ? b : a;
    if (auto values = assigned_values(other)) return in_order(tree_[tuple].kids, *values);
    if (tree_[other].kind == Kind::kList && options_.optional_brackets &&
        tree_[other].kids.size() == tree_[tuple].kids.size() &&
        std::none_of(tree_[other].kids.begin(), tree_[other].kids.end(),
                     [&](NodeId kid) { return tree_[kid].kind == Kind::kRelation; }) &&
        tree_[tuple].text == "()")
      return in_order(tree_[tuple].kids, tree_[other].kids);
  }
  if (is_list_like(kind_a) && is_list_like(kind_b)) {
    const bool is_ordered =
        kind_a == Kind::kList && kind_b == Kind::kList && !options_.unordered_lists;
    const std::vector<NodeId> kids_a = elements(a), kids_b = elements(b);
    if (is_ordered ? in_order(kids_a, kids_b) : unordered(kids_a, kids_b)) return true;
  }
  if (const auto same = intervals(a, b)) return *same;
  if (const auto same = real_sets(a, b)) return *same;
  if (kind_a == kind_b && kind_a >= Kind::kUnion && kind_a <= Kind::kDifference) {
    const std::vector<NodeId> x = tree_[a].kids, y = tree_[b].kids;
    return (equal(x[0], y[0]) && equal(x[1], y[1])) ||
           (kind_a != Kind::kDifference && equal(x[0], y[1]) && equal(x[1], y[0]));
  }
  if (kind_a == Kind::kSetBuilder && kind_b == Kind::kSetBuilder) {
    const std::vector<NodeId> x = tree_[a].kids, y = tree_[b].kids;
    return x.size() == y.size() && in_order(x, y);
  }
  return false;
}

/// Words, letters of choices, and single symbols against them.
bool Comparer::texts(NodeId a, NodeId b) {
  const Node &x = tree_[a], &y = tree_[b];
  auto letter = [](const Node& node) -> std::string_view {
    return node.kind == Kind::kChoice || node.kind == Kind::kSymbol ? std::string_view(node.text)
                                                                    : std::string_view();
  };
  if (x.kind == Kind::kChoice || y.kind == Kind::kChoice) {
    if (!letter(x).empty() && letter(x) == letter(y)) return true;
    auto words = [&](const Node& node) -> std::string_view {
      if (node.kind == Kind::kText) return node.text;
      return node.kind == Kind::kChoice ? std::string_view(tree_[node.kids[0]].text)
                                        : std::string_view();
    };
    return (x.kind == Kind::kText || y.kind == Kind::kText) && words(x) == words(y);
  }
  return x.kind == Kind::kText && y.kind == Kind::kText && x.text == y.text;
}

/// Decides where a unit matters; otherwise the units are to be ignored.
std::optional<bool> Comparer::quantities(NodeId a, NodeId b) {
  const std::string unit_a = tree_[a].kind == Kind::kQuantity ? tree_[a].text : "";
  const std::string unit_b = tree_[b].kind == Kind::kQuantity ? tree_[b].text : "";
  if (unit_a == unit_b) return std::nullopt;
  // 20 degrees may be a temperature; 20 degrees C is not 20 degrees F.
  const bool is_same_degree = (unit_a == "deg" && unit_b.starts_with("deg")) ||
                              (unit_b == "deg" && unit_a.starts_with("deg"));
  if (is_same_degree) return std::nullopt;
  if (!unit_a.empty() && !unit_b.empty()) return false;
  const bool is_a = !unit_a.empty();
  const std::string& unit = is_a ? unit_a : unit_b;
  if (unit != "%") {
    if (options_.optional_units) return std::nullopt;
    return false;
  }
  if (!options_.optional_percent) return std::nullopt;
  const NodeId bare = is_a ? b : a, percent = tree_[is_a ? a : b].kids[0];
  const auto value = evaluate_exact(tree_, bare, budget_);
  if (!value || fmpq_cmp(value->get(), Rational(1).get()) <= 0) return std::nullopt;
  if (scalars(bare, percent)) return true;
  return std::nullopt;
}

bool Comparer::based(NodeId a, NodeId b) {
  const Node &x = tree_[a], &y = tree_[b];
  if (x.kind == Kind::kBased && y.kind == Kind::kBased)
    return x.value == y.value && read_numeral(x.text).value == read_numeral(y.text).value;
  const Node& digits = x.kind == Kind::kBased ? x : y;
  const auto value = evaluate_exact(tree_, x.kind == Kind::kBased ? b : a, budget_);
  // Base ten is what numbers are written in.
  const bool may_leave_out = options_.optional_base || digits.value == Rational(10);
  return may_leave_out && value && *value == read_numeral(digits.text).value;
}

/// 3:2 equals 6:4 and 3/2; where a part is zero, as in 12:00, all parts must be the same.
bool Comparer::ratios(NodeId a, NodeId b) {
  const std::vector<NodeId> x = tree_[a].kids, y = tree_[b].kids;
  if (x.size() != y.size()) return false;
  for (size_t i = 1; i < x.size(); ++i) {
    const NodeId left = tree_.make(Kind::kProduct, {x[0], y[i]});
    const NodeId right = tree_.make(Kind::kProduct, {y[0], x[i]});
    const bool has_zero = compare_scalars(tree_, x[i], tree_.number(0), DecimalRounding::kOff,
                                          seed_, budget_) == Sameness::kSame;
    if (has_zero ? !in_order(x, y) : !scalars(left, right)) return false;
  }
  return true;
}

bool Comparer::scalars(NodeId a, NodeId b) {
  if (const auto decided = quantities(a, b)) return *decided;
  if (tree_[a].kind == Kind::kBased || tree_[b].kind == Kind::kBased) return based(a, b);
  if (tree_[a].kind == Kind::kRatio && tree_[b].kind == Kind::kRatio) return ratios(a, b);
  return compare_scalars(tree_, a, b, options_.decimal_rounding, seed_, budget_) == Sameness::kSame;
}

/// The elements of a list or set, with both values of those that have two.
std::vector<NodeId> Comparer::elements(NodeId id) {
  std::vector<NodeId> all;
  const std::vector<NodeId> kids = tree_[id].kids;
  for (const NodeId kid : kids) {
    const auto values = is_structure(tree_[kid].kind) ? std::nullopt : plus_minus(kid);
    if (values)
      all.insert(all.end(), values->begin(), values->end());
    else
      all.push_back(kid);
  }
  return all;
}

std::optional<std::vector<NodeId>> Comparer::plus_minus(NodeId id) {
  if (!contains(tree_, id, Kind::kPlusMinus, budget_)) return std::nullopt;
  return std::vector<NodeId>{choose_sign(id, true), choose_sign(id, false)};
}

/// The expression with the upper or the lower sign everywhere.
NodeId Comparer::choose_sign(NodeId id, bool is_upper) {
  budget_.spend(2);
  if (!contains(tree_, id, Kind::kPlusMinus, budget_)) return id;
  Node copy = tree_[id];
  for (NodeId& kid : copy.kids) kid = choose_sign(kid, is_upper);
  if (copy.kind == Kind::kPlusMinus) {
    copy.kind = Kind::kSum;
    if (is_upper == copy.is_negated)
      copy.kids[1] = tree_.make(Kind::kProduct, {tree_.number(-1), copy.kids[1]});
    copy.is_negated = false;
  }
  return tree_.add(std::move(copy));
}

}  // namespace moerl::reward::math
