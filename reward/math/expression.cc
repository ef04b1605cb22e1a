#include "reward/math/expression.h"

#include <algorithm>

#include "common/check.h"

namespace moerl::reward::math {
namespace {

/// FLINT keeps memory and constants for each thread until it is told that the thread ends.
struct ThreadCleanup {
  ~ThreadCleanup() { flint_cleanup(); }
};

}  // namespace

Tree::Tree() { thread_local const ThreadCleanup cleanup; }

NodeId Tree::add(Node node) {
  if (nodes_.size() - begin_ >= kMaxNodes) throw LimitError("the answer has too many parts");
  for (const NodeId kid : node.kids)
    node.depth = std::max<uint16_t>(node.depth, nodes_[kid].depth + 1);
  if (node.depth > kMaxTreeDepth) throw LimitError("the answer is nested too deeply");
  nodes_.push_back(std::move(node));
  return static_cast<NodeId>(nodes_.size() - 1);
}

NodeId Tree::number(long numerator, unsigned long denominator) {
  Node node;
  node.value = Rational(numerator, denominator);
  return add(std::move(node));
}

NodeId Tree::make(Kind kind, std::vector<NodeId> kids, std::string text) {
  Node node;
  node.kind = kind;
  node.kids = std::move(kids);
  node.text = std::move(text);
  return add(std::move(node));
}

NodeId Tree::call(Function function, std::vector<NodeId> arguments) {
  const NodeId id = make(Kind::kFunction, std::move(arguments));
  nodes_[id].function = function;
  return id;
}

NodeId Tree::negate(NodeId id) {
  Node& node = nodes_[id];
  if (node.kind == Kind::kNumber) {
    fmpq_neg(node.value.get(), node.value.get());
    return id;
  }
  return make(Kind::kProduct, {number(-1), id});
}

bool same_structure(const Tree& tree, NodeId a, NodeId b, StepBudget& budget) {
  budget.spend(1);
  const Node &x = tree[a], &y = tree[b];
  if (a == b) return true;
  if (x.kind != y.kind || x.kids.size() != y.kids.size() || x.text != y.text ||
      x.relations != y.relations || x.num_columns != y.num_columns || x.is_negated != y.is_negated)
    return false;
  if (x.kind == Kind::kFunction && x.function != y.function) return false;
  if ((x.kind == Kind::kNumber || x.kind == Kind::kBased) && !(x.value == y.value)) return false;
  for (size_t i = 0; i < x.kids.size(); ++i)
    if (!same_structure(tree, x.kids[i], y.kids[i], budget)) return false;
  return true;
}

namespace {

void write(const Tree& tree, NodeId id, std::string& out, StepBudget& budget) {
  budget.spend(1);
  const Node& node = tree[id];
  out += static_cast<char>('A' + static_cast<int>(node.kind));
  if (node.kind == Kind::kFunction) out += std::to_string(static_cast<int>(node.function));
  if (node.kind == Kind::kNumber || node.kind == Kind::kBased) {
    char* text = fmpq_get_str(nullptr, 10, node.value.get());
    out += text;
    flint_free(text);
  }
  out += node.text;
  out += '(';
  for (const NodeId kid : node.kids) {
    write(tree, kid, out, budget);
    out += ',';
  }
  out += ')';
}

void collect(const Tree& tree, NodeId id, std::vector<std::string>& names, StepBudget& budget) {
  budget.spend(1);
  const Node& node = tree[id];
  if (node.kind == Kind::kSymbol || node.kind == Kind::kCall || node.kind == Kind::kOpaque) {
    names.push_back(atom_name(tree, id, budget));
    return;
  }
  const bool is_bound = node.kind == Kind::kFunction && (node.function == Function::kSumOver ||
                                                         node.function == Function::kProductOver);
  const size_t before = names.size();
  for (const NodeId kid : node.kids) collect(tree, kid, names, budget);
  if (is_bound)
    names.erase(std::remove(names.begin() + static_cast<long>(before), names.end(),
                            tree[node.kids[1]].text),
                names.end());
}

}  // namespace

std::string atom_name(const Tree& tree, NodeId id, StepBudget& budget) {
  const Node& node = tree[id];
  if (node.kind == Kind::kSymbol) return node.text;
  std::string name = "@";
  write(tree, id, name, budget);
  return name;
}

std::vector<std::string> symbols_of(const Tree& tree, NodeId id, StepBudget& budget) {
  std::vector<std::string> names;
  collect(tree, id, names, budget);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

bool contains(const Tree& tree, NodeId id, Kind kind, StepBudget& budget) {
  budget.spend(1);
  const Node& node = tree[id];
  if (node.kind == kind) return true;
  return std::any_of(node.kids.begin(), node.kids.end(),
                     [&](NodeId kid) { return contains(tree, kid, kind, budget); });
}

}  // namespace moerl::reward::math
