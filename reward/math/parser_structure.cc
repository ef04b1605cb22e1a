#include <algorithm>

#include "common/check.h"
#include "reward/math/parser.h"

namespace moerl::reward::math {

NodeId Parser::brackets() {
  const DepthGuard guard(*this);
  std::string open = take().text;
  const Restore bar(bar_closes_, false), colon(colon_separates_, false);
  std::vector<Element> elements = list();
  std::string close = take().text;
  // ]0,1[ is the open interval.
  const bool is_pair = elements.size() == 2;
  if (close != ")" && close != "]" && !(close == "[" && is_pair)) {
    --at_;
    fail("expected a closing bracket");
  }
  if (open == "]" && !is_pair) fail("expected an expression before ']'");
  if (open == "]") open = "(";
  if (close == "[") close = ")";
  if (elements.size() > 2 && (open == "(") != (close == ")")) fail("brackets of two kinds around");
  if (elements.size() == 1 && (open == "(") == (close == ")")) return elements[0].node;
  std::vector<NodeId> kids;
  for (const Element& element : elements) kids.push_back(element.node);
  return tree_.make(Kind::kBrackets, std::move(kids), open + close);
}

/// {x} is x; {1,2,3} is a set; {n \choose k} is a binomial.
NodeId Parser::group() {
  const DepthGuard guard(*this);
  expect("{");
  const Restore bar(bar_closes_, false), colon(colon_separates_, false);
  if (take("}")) return starts_factor() ? primary() : tree_.number(1);
  std::vector<Element> elements = list();
  if (take_command("choose")) {
    const NodeId below = sum();
    expect("}");
    return tree_.call(Function::kBinomial, {elements[0].node, below});
  }
  if (take_command("over")) {
    const NodeId below = sum();
    expect("}");
    return tree_.make(Kind::kProduct,
                      {elements[0].node, tree_.make(Kind::kPower, {below, tree_.number(-1)})});
  }
  // x^{\left{3 + 1\right}} and \{1,2} have braces of two kinds.
  if (!take("\\}")) expect("}");
  if (elements.size() == 1) return elements[0].node;
  std::vector<NodeId> kids;
  for (const Element& element : elements) kids.push_back(element.node);
  return tree_.make(Kind::kSet, std::move(kids));
}

NodeId Parser::set() {
  const DepthGuard guard(*this);
  expect("\\{");
  if (take("\\}")) return tree_.make(Kind::kSet, {});
  std::vector<Element> elements;
  {
    const Restore bar(bar_closes_, true), colon(colon_separates_, true);
    elements = list();
  }
  std::vector<NodeId> kids;
  for (const Element& element : elements) kids.push_back(element.node);
  if (take("|") || take(":")) {
    const Restore bar(bar_closes_, false), colon(colon_separates_, false);
    for (const Element& condition : list()) kids.push_back(condition.node);
    if (!take("\\}")) expect("}");
    return tree_.make(Kind::kSetBuilder, std::move(kids));
  }
  if (!take("\\}")) expect("}");
  return tree_.make(Kind::kSet, std::move(kids));
}

NodeId Parser::absolute_value() {
  const DepthGuard guard(*this);
  expect("|");
  const Restore bar(bar_closes_, true);
  const NodeId inside = sum();
  expect("|");
  return tree_.call(tree_[inside].kind == Kind::kMatrix ? Function::kDeterminant : Function::kAbs,
                    {inside});
}

NodeId Parser::angle_brackets() {
  const DepthGuard guard(*this);
  const Restore bar(bar_closes_, false), colon(colon_separates_, false);
  std::vector<NodeId> kids;
  for (const Element& element : list()) kids.push_back(element.node);
  if (!take_command("rangle")) fail("expected \\rangle");
  return tree_.make(Kind::kBrackets, std::move(kids), "()");
}

NodeId Parser::environment() {
  const DepthGuard guard(*this);
  const std::string name = take().text;
  const Restore bar(bar_closes_, false), colon(colon_separates_, false);
  const bool is_matrix =
      name.find("matrix") != std::string::npos || name == "array" || name == "tabular";
  return is_matrix ? matrix(name) : lines(name);
}

NodeId Parser::matrix(const std::string& name) {
  std::vector<NodeId> cells;
  size_t num_columns = 0, in_row = 0;
  auto end_row = [&] {
    if (num_columns == 0) num_columns = in_row;
    if (in_row != num_columns) fail("the rows of a matrix differ in length");
    in_row = 0;
  };
  while (peek().kind != TokenKind::kEnvironmentEnd) {
    if (peek().kind == TokenKind::kEnd) fail("an environment without \\end");
    cells.push_back(statement());
    if (cells.size() > kMaxMatrixCells) throw LimitError("the matrix is too large");
    ++in_row;
    if (take("&")) continue;
    if (!take("\\\\") && peek().kind != TokenKind::kEnvironmentEnd) fail("expected & or \\\\");
    end_row();
    while (take("\\\\")) {
    }
  }
  if (in_row > 0) fail("a matrix with an empty cell");
  ++at_;
  if (cells.empty()) fail("a matrix without cells");
  const NodeId id = tree_.make(Kind::kMatrix, std::move(cells));
  tree_[id].num_columns = static_cast<uint16_t>(num_columns);
  return name == "vmatrix" ? tree_.call(Function::kDeterminant, {id}) : id;
}

/// cases, aligned and the like: each line is an answer.
NodeId Parser::lines(const std::string& name) {
  const bool has_columns = name == "cases";
  std::vector<NodeId> kids;
  while (peek().kind != TokenKind::kEnvironmentEnd) {
    if (peek().kind == TokenKind::kEnd) fail("an environment without \\end");
    if (take("\\\\") || take("&") || take(",")) continue;
    // The marks of alignment stand anywhere in a line.
    for (size_t at = at_; !has_columns && at < tokens_.size() && !tokens_[at].is("\\\\") &&
                          tokens_[at].kind != TokenKind::kEnvironmentEnd;)
      if (tokens_[at].is("&"))
        tokens_.erase(tokens_.begin() + static_cast<long>(at));
      else
        ++at;
    for (const Element& element : list()) kids.push_back(element.node);
  }
  ++at_;
  if (kids.empty()) fail("an environment without content");
  return kids.size() == 1 ? kids[0] : tree_.make(Kind::kList, std::move(kids));
}

}  // namespace moerl::reward::math
