#include "reward/math/parser.h"

#include <algorithm>

#include "common/check.h"
#include "reward/math/lexer.h"

namespace moerl::reward::math {

bool Parser::take(std::string_view symbol) {
  if (!peek().is(symbol)) return false;
  ++at_;
  return true;
}

bool Parser::take_command(std::string_view name) {
  if (!peek().is_command(name)) return false;
  ++at_;
  return true;
}

void Parser::expect(std::string_view symbol) {
  if (!take(symbol)) fail(concat("expected '", symbol, "'"));
}

void Parser::fail(std::string_view what) const {
  const Token& token = peek();
  throw ParseError(concat(what, token.kind == TokenKind::kEnd ? " at the end" : " at '",
                          token.text.substr(0, 40), token.kind == TokenKind::kEnd ? "" : "'"));
}

NodeId Parser::parse() {
  // Leading "= 5", ": 5" and trailing punctuation belong to the sentence around the answer.
  while (peek().is("=") || peek().is(":") || peek().is("~~") || peek().is(".") || peek().is(","))
    ++at_;
  while (tokens_.size() >= 2) {
    const Token& last = tokens_[tokens_.size() - 2];
    if (!(last.is(".") || last.is(",") || last.is(";") || last.is(":") || last.is("\\\\") ||
          last.is("_")))
      break;
    tokens_.erase(tokens_.end() - 2);
  }
  if (peek().kind == TokenKind::kEnd) fail("the answer is empty");
  NodeId root = grouped(list());
  if (take_command("over"))
    root =
        tree_.make(Kind::kProduct, {root, tree_.make(Kind::kPower, {product(), tree_.number(-1)})});
  if (peek().kind != TokenKind::kEnd) fail("cannot read on");
  return root;
}

/// A number set or an interval, and "- \{": \mathbb{R} - \{1\}. Elsewhere \{x\} may be a fraction.
bool Parser::is_set_difference(const std::vector<NodeId>& terms) const {
  if (terms.size() != 1 || !peek().is("-") || !peek(1).is("\\{")) return false;
  const Kind kind = tree_[terms[0]].kind;
  return kind == Kind::kNumberSet || kind == Kind::kBrackets;
}

bool Parser::ends_element(size_t at) const {
  const Token& token = tokens_[std::min(at, tokens_.size() - 1)];
  return token.kind == TokenKind::kEnd || token.kind == TokenKind::kEnvironmentEnd ||
         token.is(",") || token.is(";") || token.is(")") || token.is("]") || token.is("}") ||
         token.is("\\}") || token.is("\\\\") || token.is("&") || token.is_command("and") ||
         token.is_command("or") || token.is("=") || token.is("<") || token.is(">") ||
         token.is("<=") || token.is(">=") || token.is("!=") || token.is("~~") || token.is("|");
}

std::optional<std::string> Parser::take_separator() {
  std::optional<std::string> found;
  while (true) {
    const Token& token = peek();
    const bool is_word = token.is_command("and") || token.is_command("or");
    if (!is_word && !token.is(",") && !token.is(";")) return found;
    // "2, 3, and 4": the word says more than the comma, the semicolon more than both.
    if (!found || *found == ",") found = token.text;
    ++at_;
  }
}

std::vector<Parser::Element> Parser::list() {
  const DepthGuard guard(*this);
  std::vector<Element> elements{{statement(), ""}};
  while (true) {
    auto separator = take_separator();
    if (!separator) return elements;
    if (ends_element(at_)) return elements;
    elements.push_back({statement(), std::move(*separator)});
  }
}

NodeId Parser::grouped(std::vector<Element> elements) {
  if (elements.size() == 1) return elements[0].node;
  // p=5, q=2; p=7, q=2 and (p=5, q=2) or (p=7, q=2): the looser separator makes outer groups.
  auto is_outer = [&](const Element& element, bool words) {
    return element.separator == ";" ||
           (words && (element.separator == "and" || element.separator == "or"));
  };
  const bool all_equations = std::all_of(elements.begin(), elements.end(), [&](const Element& e) {
    return tree_[e.node].kind == Kind::kRelation;
  });
  const bool has_commas = std::any_of(elements.begin() + 1, elements.end(),
                                      [](const Element& e) { return e.separator == ","; });
  std::vector<std::vector<NodeId>> groups(1);
  for (const Element& element : elements) {
    if (is_outer(element, all_equations)) groups.emplace_back();
    groups.back().push_back(element.node);
  }
  const bool is_even = std::all_of(groups.begin(), groups.end(), [&](const auto& group) {
    return group.size() == groups[0].size();
  });
  std::vector<NodeId> kids;
  if (has_commas && groups.size() > 1 && is_even && groups[0].size() > 1) {
    for (auto& group : groups) kids.push_back(tree_.make(Kind::kList, std::move(group)));
  } else {
    for (const Element& element : elements) kids.push_back(element.node);
  }
  const bool is_union = std::all_of(elements.begin() + 1, elements.end(),
                                    [](const Element& e) { return e.separator == "or"; });
  return tree_.make(Kind::kList, std::move(kids), is_union ? "or" : "");
}

std::optional<RelationOp> Parser::relation_at() const {
  const Token& token = peek();
  if (token.kind == TokenKind::kSymbol) {
    if (token.text == "=") return RelationOp::kEqual;
    if (token.text == "<") return RelationOp::kLess;
    if (token.text == ">") return RelationOp::kGreater;
    if (token.text == "<=") return RelationOp::kLessEqual;
    if (token.text == ">=") return RelationOp::kGreaterEqual;
    if (token.text == "!=") return RelationOp::kNotEqual;
    if (token.text == "~~") return RelationOp::kApproximate;
    if (token.text == "==") return RelationOp::kCongruent;
  }
  if (token.kind == TokenKind::kCommand) {
    if (token.text == "in") return RelationOp::kIn;
    if (token.text == "notin") return RelationOp::kNotIn;
    for (const std::string_view other : {"sim", "propto", "subset", "subseteq", "supset", "perp",
                                         "parallel", "iff", "to", "ll", "gg"})
      if (token.text == other) return RelationOp::kOther;
  }
  return std::nullopt;
}

NodeId Parser::congruence(NodeId left, NodeId right) {
  NodeId modulus;
  if (take_command("pmod")) {
    modulus = argument(false);
  } else {
    expect("(");
    if (!take_command("mod")) fail("expected a modulus");
    modulus = sum();
    expect(")");
  }
  const NodeId id = tree_.make(Kind::kRelation, {left, right, modulus});
  tree_[id].relations = {RelationOp::kCongruent};
  return id;
}

NodeId Parser::statement() {
  const DepthGuard guard(*this);
  std::vector<NodeId> kids{union_()};
  std::vector<RelationOp> relations;
  std::string others;
  while (auto relation = relation_at()) {
    if (*relation == RelationOp::kOther) others += peek().text + ' ';
    ++at_;
    relations.push_back(*relation);
    kids.push_back(union_());
  }
  const bool has_modulus =
      peek().is_command("pmod") || (peek().is("(") && peek(1).is_command("mod"));
  if (has_modulus && kids.size() <= 2)
    return congruence(kids[0], kids.size() == 2 ? kids[1] : kids[0]);
  if (relations.empty()) return kids[0];
  const NodeId id = tree_.make(Kind::kRelation, std::move(kids), std::move(others));
  tree_[id].relations = std::move(relations);
  return id;
}

NodeId Parser::union_() {
  NodeId left = cut();
  while (true) {
    if (take_command("cup"))
      left = tree_.make(Kind::kUnion, {left, cut()});
    else if (take_command("setminus") || (is_set_difference({left}) && take("-")))
      left = tree_.make(Kind::kDifference, {left, cut()});
    else
      return left;
  }
}

NodeId Parser::cut() {
  NodeId left = ratio();
  while (take_command("cap")) left = tree_.make(Kind::kIntersection, {left, ratio()});
  return left;
}

NodeId Parser::ratio() {
  std::vector<NodeId> kids{sum()};
  while (!colon_separates_ && peek().is(":")) {
    ++at_;
    kids.push_back(sum());
  }
  const NodeId node = kids.size() == 1 ? kids[0] : tree_.make(Kind::kRatio, std::move(kids));
  return with_unit(node);
}

NodeId Parser::sum() {
  const DepthGuard guard(*this);
  std::vector<NodeId> terms;
  auto joined = [&]() {
    if (terms.empty()) return tree_.number(0);
    return terms.size() == 1 ? terms[0] : tree_.make(Kind::kSum, terms);
  };
  for (bool is_first = true;; is_first = false) {
    bool is_minus = false;
    if (peek().is("+-") || peek().is("-+")) {
      const bool is_negated = take().text == "-+";
      const NodeId before = joined();
      const NodeId node = tree_.make(Kind::kPlusMinus, {before, product()});
      tree_[node].is_negated = is_negated;
      terms = {node};
      continue;
    }
    if (!is_first && !peek().is("+") && !peek().is("-")) break;
    if (is_set_difference(terms)) break;
    while (peek().is("+") || peek().is("-")) is_minus ^= take().text == "-";
    const NodeId term = product();
    terms.push_back(is_minus ? negated(term) : term);
  }
  return joined();
}

/// -a mod b is (-a) mod b.
NodeId Parser::negated(NodeId term) {
  const Node& node = tree_[term];
  if (node.kind != Kind::kFunction || node.function != Function::kMod) return tree_.negate(term);
  const NodeId dividend = node.kids[0], divisor = node.kids[1];
  return tree_.call(Function::kMod, {tree_.negate(dividend), divisor});
}

NodeId Parser::product() {
  std::vector<NodeId> factors{signed_factor()};
  auto joined = [&]() {
    return factors.size() == 1 ? factors[0] : tree_.make(Kind::kProduct, factors);
  };
  while (true) {
    if (take("*")) {
      factors.push_back(signed_factor());
    } else if (take("/")) {
      factors.push_back(tree_.make(Kind::kPower, {signed_factor(), tree_.number(-1)}));
    } else if (take_command("mod")) {
      const NodeId dividend = joined();
      factors = {tree_.call(Function::kMod, {dividend, signed_factor()})};
    } else if (starts_factor() && !unit_end(at_, nullptr)) {
      if (peek().kind == TokenKind::kNumber && tree_[factors.back()].kind == Kind::kNumber &&
          tokens_[at_ - 1].kind == TokenKind::kNumber) {
        const size_t before = at_;
        const NodeId next = factor();
        // 3 1\frac{1}{2} is a product; 3 12 is nothing.
        if (at_ - before < 3) fail("two numbers side by side");
        factors.push_back(next);
        continue;
      }
      factors.push_back(factor());
    } else {
      return joined();
    }
  }
}

}  // namespace moerl::reward::math
