#include "reward/math/real_set.h"

#include <algorithm>

#include "reward/math/ball.h"
#include "reward/math/compare_scalars.h"
#include "reward/math/evaluate_exact.h"

namespace moerl::reward::math {
namespace {

/// Thrown where the order of two end points is not known.
struct UnknownOrder {};

class SetBuilder {
 public:
  SetBuilder(const Tree& tree, StepBudget& budget) : tree_(tree), budget_(budget) {}

  std::optional<RealSet> build(NodeId id) {
    budget_.spend(1);
    const Node& node = tree_[id];
    switch (node.kind) {
      case Kind::kBrackets: {
        const auto interval = to_interval(tree_, id, budget_);
        if (!interval) return std::nullopt;
        return normal({*interval});
      }
      case Kind::kSet:
        return points(node);
      case Kind::kUnion: {
        auto a = build(node.kids[0]), b = build(node.kids[1]);
        if (!a || !b) return std::nullopt;
        a->insert(a->end(), b->begin(), b->end());
        return normal(std::move(*a));
      }
      case Kind::kIntersection:
      case Kind::kDifference: {
        const auto a = build(node.kids[0]), b = build(node.kids[1]);
        if (!a || !b) return std::nullopt;
        return intersection(*a, node.kind == Kind::kDifference ? complement(*b) : *b);
      }
      case Kind::kNumberSet:
        if (node.text == "R") return RealSet{Interval{}};
        return std::nullopt;
      case Kind::kRelation:
        return solutions(node);
      case Kind::kSetBuilder:
        return conditions(node);
      case Kind::kList:
        return alternatives(node);
      default:
        return std::nullopt;
    }
  }

  int order(NodeId a, NodeId b) {
    const auto x = evaluate_exact(tree_, a, budget_), y = evaluate_exact(tree_, b, budget_);
    if (x && y) return fmpq_cmp(x->get(), y->get());
    switch (order_constants(tree_, a, b, budget_)) {
      case BallOrder::kLess:
        return -1;
      case BallOrder::kEqual:
        return 0;
      case BallOrder::kGreater:
        return 1;
      default:
        throw UnknownOrder();
    }
  }

 private:
  std::optional<RealSet> points(const Node& node) {
    RealSet set;
    for (const NodeId kid : node.kids) {
      if (is_structure(tree_[kid].kind) || infinity_sign(tree_, kid) != 0) return std::nullopt;
      if (!symbols_of(tree_, kid, budget_).empty()) return std::nullopt;
      set.push_back({true, true, true, true, kid, kid});
    }
    return normal(std::move(set));
  }

  int low_order(const Interval& a, const Interval& b) {
    if (!a.has_low || !b.has_low) return a.has_low - b.has_low;
    const int sign = order(a.low, b.low);
    return sign != 0 ? sign : b.closed_low - a.closed_low;
  }

  /// True if b starts inside of a or where a ends. REQUIRES: a starts first.
  bool touches(const Interval& a, const Interval& b) {
    if (!a.has_high || !b.has_low) return true;
    const int sign = order(b.low, a.high);
    return sign < 0 || (sign == 0 && (a.closed_high || b.closed_low));
  }

  bool is_empty(const Interval& x) {
    if (!x.has_low || !x.has_high) return false;
    const int sign = order(x.low, x.high);
    return sign > 0 || (sign == 0 && !(x.closed_low && x.closed_high));
  }

  RealSet normal(RealSet set) {
    if (set.size() > kMaxElements) throw LimitError("a set has too many parts");
    std::erase_if(set, [&](const Interval& x) { return is_empty(x); });
    // Insertion sort: the order may throw, and the sets are small.
    for (size_t i = 1; i < set.size(); ++i)
      for (size_t j = i; j > 0 && low_order(set[j], set[j - 1]) < 0; --j)
        std::swap(set[j], set[j - 1]);
    RealSet merged;
    for (const Interval& next : set) {
      if (merged.empty() || !touches(merged.back(), next)) {
        merged.push_back(next);
        continue;
      }
      Interval& last = merged.back();
      if (!last.has_high) continue;
      const int sign = next.has_high ? order(next.high, last.high) : 1;
      if (sign == 0) last.closed_high = last.closed_high || next.closed_high;
      if (sign <= 0) continue;
      last.has_high = next.has_high;
      last.high = next.high;
      last.closed_high = next.closed_high;
    }
    return merged;
  }

  RealSet complement(const RealSet& set) {
    RealSet out;
    Interval gap;
    bool is_open = true;
    for (const Interval& x : set) {
      if (x.has_low) {
        gap.has_high = true;
        gap.high = x.low;
        gap.closed_high = !x.closed_low;
        out.push_back(gap);
      }
      is_open = x.has_high;
      gap = Interval{};
      gap.has_low = true;
      gap.low = x.high;
      gap.closed_low = !x.closed_high;
    }
    if (is_open) out.push_back(gap);
    return out;
  }

  RealSet intersection(const RealSet& a, const RealSet& b) {
    RealSet out;
    for (const Interval& x : a)
      for (const Interval& y : b) {
        Interval cut = low_order(x, y) >= 0 ? x : y;
        const Interval* first = &x;
        if (!x.has_high) {
          first = &y;
        } else if (y.has_high) {
          const int sign = order(x.high, y.high);
          if (sign > 0 || (sign == 0 && !y.closed_high)) first = &y;
        }
        cut.has_high = first->has_high;
        cut.high = first->high;
        cut.closed_high = first->closed_high;
        out.push_back(cut);
      }
    return normal(std::move(out));
  }

  /// What lone symbol the relation is about; empty if there is none.
  std::optional<RealSet> solutions(const Node& node) {
    if (node.relations.size() == 1 && tree_[node.kids[0]].kind == Kind::kSymbol) {
      const bool is_in = node.relations[0] == RelationOp::kIn;
      if (is_in || node.relations[0] == RelationOp::kNotIn) {
        auto members = build(node.kids[1]);
        return is_in || !members ? members : complement(*members);
      }
    }
    RealSet set{Interval{}};
    const std::string* symbol = nullptr;
    for (size_t i = 0; i < node.relations.size(); ++i) {
      const bool is_left = tree_[node.kids[i]].kind == Kind::kSymbol;
      const NodeId unknown = node.kids[is_left ? i : i + 1];
      const NodeId bound = node.kids[is_left ? i + 1 : i];
      if (tree_[unknown].kind != Kind::kSymbol || is_structure(tree_[bound].kind) ||
          !symbols_of(tree_, bound, budget_).empty())
        return std::nullopt;
      if (symbol && *symbol != tree_[unknown].text) return std::nullopt;
      symbol = &tree_[unknown].text;
      auto part = half_line(node.relations[i], is_left, bound);
      if (!part) return std::nullopt;
      set = intersection(set, *part);
    }
    return set;
  }

  std::optional<RealSet> half_line(RelationOp op, bool symbol_is_left, NodeId bound) {
    if (op == RelationOp::kNotEqual) return complement({{true, true, true, true, bound, bound}});
    const bool is_less = op == RelationOp::kLess || op == RelationOp::kLessEqual;
    const bool is_greater = op == RelationOp::kGreater || op == RelationOp::kGreaterEqual;
    if (!is_less && !is_greater) return std::nullopt;
    const bool is_closed = op == RelationOp::kLessEqual || op == RelationOp::kGreaterEqual;
    Interval line;
    const bool is_upper = is_less == symbol_is_left;
    if (infinity_sign(tree_, bound) != 0)
      return infinity_sign(tree_, bound) == (is_upper ? 1 : -1)
                 ? std::optional<RealSet>(RealSet{line})
                 : std::nullopt;
    (is_upper ? line.has_high : line.has_low) = true;
    (is_upper ? line.high : line.low) = bound;
    (is_upper ? line.closed_high : line.closed_low) = is_closed;
    return RealSet{line};
  }

  std::optional<RealSet> conditions(const Node& node) {
    std::optional<RealSet> set = RealSet{Interval{}};
    if (tree_[node.kids[0]].kind != Kind::kSymbol) {
      set = build(node.kids[0]);
      if (!set || tree_[node.kids[0]].kind != Kind::kRelation) return std::nullopt;
    }
    for (size_t i = 1; i < node.kids.size(); ++i) {
      const auto part = build(node.kids[i]);
      if (!part || tree_[node.kids[i]].kind != Kind::kRelation) return std::nullopt;
      set = intersection(*set, *part);
    }
    return set;
  }

  /// "x < 1 or x > 3": inequalities in the same symbol.
  std::optional<RealSet> alternatives(const Node& node) {
    const bool is_union = node.text == "or";
    RealSet set;
    if (!is_union) set.push_back(Interval{});
    const std::string* symbol = nullptr;
    for (const NodeId kid : node.kids) {
      if (tree_[kid].kind != Kind::kRelation) return std::nullopt;
      const auto names = symbols_of(tree_, kid, budget_);
      if (names.size() != 1 || (symbol && *symbol != names[0])) return std::nullopt;
      if (!symbol) first_symbol_ = names[0];
      symbol = &first_symbol_;
      const auto part = build(kid);
      if (!part) return std::nullopt;
      if (is_union) {
        set.insert(set.end(), part->begin(), part->end());
        set = normal(std::move(set));
      } else {
        set = intersection(set, *part);
      }
    }
    return set;
  }

  const Tree& tree_;
  StepBudget& budget_;
  std::string first_symbol_;
};

}  // namespace

std::optional<Interval> to_interval(const Tree& tree, NodeId id, StepBudget& budget) {
  const Node& node = tree[id];
  budget.spend(1);
  NodeId low, high;
  Interval interval;
  if (node.kind == Kind::kBrackets && node.kids.size() == 2) {
    low = node.kids[0];
    high = node.kids[1];
    interval.closed_low = node.text[0] == '[';
    interval.closed_high = node.text[1] == ']';
  } else if (node.kind == Kind::kRelation && node.relations.size() == 2 &&
             tree[node.kids[1]].kind == Kind::kSymbol) {
    auto is_less = [](RelationOp op) {
      return op == RelationOp::kLess || op == RelationOp::kLessEqual;
    };
    auto is_greater = [](RelationOp op) {
      return op == RelationOp::kGreater || op == RelationOp::kGreaterEqual;
    };
    const RelationOp first = node.relations[0], second = node.relations[1];
    const bool rises = is_less(first) && is_less(second);
    if (!rises && !(is_greater(first) && is_greater(second))) return std::nullopt;
    auto is_closed = [](RelationOp op) {
      return op == RelationOp::kLessEqual || op == RelationOp::kGreaterEqual;
    };
    low = node.kids[rises ? 0 : 2];
    high = node.kids[rises ? 2 : 0];
    interval.closed_low = is_closed(rises ? first : second);
    interval.closed_high = is_closed(rises ? second : first);
  } else {
    return std::nullopt;
  }
  if (is_structure(tree[low].kind) || is_structure(tree[high].kind)) return std::nullopt;
  const int low_infinity = infinity_sign(tree, low), high_infinity = infinity_sign(tree, high);
  if (low_infinity > 0 || high_infinity < 0) return std::nullopt;
  interval.has_low = low_infinity == 0;
  interval.has_high = high_infinity == 0;
  // Infinity is never reached: [-oo and (-oo are the same.
  if (!interval.has_low) interval.closed_low = false;
  if (!interval.has_high) interval.closed_high = false;
  interval.low = low;
  interval.high = high;
  return interval;
}

std::optional<RealSet> to_real_set(const Tree& tree, NodeId id, StepBudget& budget) {
  try {
    return SetBuilder(tree, budget).build(id);
  } catch (const UnknownOrder&) {
    return std::nullopt;
  }
}

std::optional<bool> same_set(const Tree& tree, const RealSet& a, const RealSet& b,
                             StepBudget& budget) {
  if (a.size() != b.size()) return false;
  SetBuilder builder(tree, budget);
  try {
    for (size_t i = 0; i < a.size(); ++i) {
      const Interval &x = a[i], &y = b[i];
      if (x.has_low != y.has_low || x.has_high != y.has_high) return false;
      if (x.closed_low != y.closed_low || x.closed_high != y.closed_high) return false;
      if (x.has_low && builder.order(x.low, y.low) != 0) return false;
      if (x.has_high && builder.order(x.high, y.high) != 0) return false;
    }
  } catch (const UnknownOrder&) {
    return std::nullopt;
  }
  return true;
}

}  // namespace moerl::reward::math
