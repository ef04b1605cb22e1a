#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reward/math/expression.h"
#include "reward/math/token.h"

namespace moerl::reward::math {

/// Recursive descent over tokens. Every construct that can hold another one counts its depth, so
/// the recursion is bounded by kMaxDepth whatever the input. From loose to tight:
///
///   list       := statement ((',' | ';' | 'and' | 'or') statement)*
///   statement  := union (relation union)*
///   union      := cut (('cup' | 'setminus') cut)*      cut := ratio ('cap' ratio)*
///   ratio      := sum (':' sum)* unit?
///   sum        := sign? product (('+' | '-' | '+-' | '-+') product)*
///   product    := factor (('*' | '/' | 'mod')? factor)*
///   factor     := primary ('^' exponent | '_' subscript | '!' | '%' | "'")*
class Parser {
 public:
  /// @param tree  receives the nodes; borrowed.
  Parser(std::vector<Token> tokens, Tree& tree) : tokens_(std::move(tokens)), tree_(tree) {}

  /// All tokens as one answer. @throws ParseError, LimitError.
  NodeId parse();

 private:
  struct Element {
    NodeId node;
    std::string separator;  // before it: "", ",", ";", "and", "or"
  };
  class DepthGuard;

  const Token& peek(size_t offset = 0) const {
    return tokens_[std::min(at_ + offset, tokens_.size() - 1)];
  }
  /// The token, which stays where it is; the end is never passed.
  const Token& take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_.back(); }
  bool take(std::string_view symbol);
  bool take_command(std::string_view name);
  void expect(std::string_view symbol);
  [[noreturn]] void fail(std::string_view what) const;

  // parser.cc
  std::vector<Element> list();
  NodeId grouped(std::vector<Element> elements);
  std::optional<std::string> take_separator();
  NodeId statement();
  std::optional<RelationOp> relation_at() const;
  NodeId congruence(NodeId left, NodeId right);
  NodeId union_();
  NodeId cut();
  NodeId ratio();
  NodeId sum();
  NodeId product();
  NodeId negated(NodeId term);
  bool ends_element(size_t at) const;
  bool is_set_difference(const std::vector<NodeId>& terms) const;

  // parser_units.cc
  /// Index after the unit that stands at `at` and ends an element; empty if there is none.
  std::optional<size_t> unit_end(size_t at, std::string* name) const;
  NodeId with_unit(NodeId node);

  // parser_factor.cc
  bool starts_factor() const;
  NodeId signed_factor();
  NodeId factor();
  NodeId postfix(NodeId base);
  NodeId degrees(NodeId base);
  NodeId power(NodeId base);
  NodeId exponent();
  bool take_degree();
  NodeId subscript(NodeId base);
  NodeId primary();
  NodeId number();
  std::optional<Rational> mixed_fraction();
  std::optional<Rational> small_integer_group(size_t& at) const;
  Rational repeating_digits(const std::string& text);
  NodeId word();

  // parser_command.cc
  NodeId command();
  NodeId argument(bool one_digit);
  NodeId root();
  NodeId fraction(std::string_view name);
  NodeId overline(const std::string& name);
  NodeId delimited(std::string_view close, Function function);
  std::optional<NodeId> function(const std::string& name);
  std::vector<NodeId> function_arguments(bool is_trigonometric);
  NodeId big_operator(const std::string& name);
  NodeId opaque_rest(size_t begin);
  std::string raw_group();

  // parser_structure.cc
  NodeId brackets();
  NodeId group();
  NodeId set();
  NodeId absolute_value();
  NodeId angle_brackets();
  NodeId environment();
  NodeId matrix(const std::string& name);
  NodeId lines(const std::string& name);

  std::vector<Token> tokens_;
  Tree& tree_;
  size_t at_ = 0;
  int depth_ = 0;
  size_t split_word_ = SIZE_MAX;  // the word that symbols are being taken from
  bool bar_closes_ = false;       // '|' after an operand closes or separates
  bool colon_separates_ = false;  // ':' is no ratio
  bool i_is_symbol_ = false;      // i counts the terms of a sum
  bool in_angle_ = false;         // degrees are angles: multiplied by pi/180
};

/// Counts one level of nesting while it lives.
class Parser::DepthGuard {
 public:
  explicit DepthGuard(Parser& parser) : parser_(parser) {
    if (parser_.depth_ >= kMaxDepth) throw LimitError("the answer is nested too deeply");
    ++parser_.depth_;
  }
  ~DepthGuard() { --parser_.depth_; }
  DepthGuard(const DepthGuard&) = delete;

 private:
  Parser& parser_;
};

/// Sets a variable for the life of the object.
class Restore {
 public:
  Restore(bool& variable, bool value) : variable_(variable), before_(variable) { variable = value; }
  ~Restore() { variable_ = before_; }
  Restore(const Restore&) = delete;

 private:
  bool& variable_;
  bool before_;
};

}  // namespace moerl::reward::math
