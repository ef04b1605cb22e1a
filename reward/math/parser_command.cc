#include <algorithm>
#include <unordered_map>

#include "common/check.h"
#include "reward/math/lexer.h"
#include "reward/math/numerals.h"
#include "reward/math/parser.h"

namespace moerl::reward::math {
namespace {

struct FunctionEntry {
  Function function;
  bool is_trigonometric = false;
  Function inverse = Function::kExp;  // kExp: there is none
};

const FunctionEntry* find_function(const std::string& name) {
  using F = Function;
  static const std::unordered_map<std::string, FunctionEntry> table = {
      {"sin", {F::kSin, true, F::kArcsin}},
      {"cos", {F::kCos, true, F::kArccos}},
      {"tan", {F::kTan, true, F::kArctan}},
      {"cot", {F::kCot, true, F::kArccot}},
      {"sec", {F::kSec, true, F::kArcsec}},
      {"csc", {F::kCsc, true, F::kArccsc}},
      {"arcsin", {F::kArcsin}},
      {"arccos", {F::kArccos}},
      {"arctan", {F::kArctan}},
      {"arccot", {F::kArccot}},
      {"arcsec", {F::kArcsec}},
      {"arccsc", {F::kArccsc}},
      {"sinh", {F::kSinh, false, F::kArcsinh}},
      {"cosh", {F::kCosh, false, F::kArccosh}},
      {"tanh", {F::kTanh, false, F::kArctanh}},
      {"coth", {F::kCoth}},
      {"sech", {F::kSech}},
      {"csch", {F::kCsch}},
      {"arcsinh", {F::kArcsinh}},
      {"arccosh", {F::kArccosh}},
      {"arctanh", {F::kArctanh}},
      {"ln", {F::kLog}},
      {"log", {F::kLog}},
      {"lg", {F::kLog}},
      {"exp", {F::kExp}},
      {"abs", {F::kAbs}},
      {"floor", {F::kFloor}},
      {"ceil", {F::kCeil}},
      {"gcd", {F::kGcd}},
      {"lcm", {F::kLcm}},
      {"max", {F::kMax}},
      {"min", {F::kMin}},
      {"sgn", {F::kSign}},
      {"sign", {F::kSign}},
      {"Re", {F::kRe}},
      {"Im", {F::kIm}},
      {"arg", {F::kArg}},
      {"det", {F::kDeterminant}},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : &it->second;
}

}  // namespace

NodeId Parser::command() {
  const std::string name = take().text;
  if (name == "frac" || name == "binom") return fraction(name);
  if (name == "sqrt") return root();
  if (name == "cbrt") return tree_.make(Kind::kRoot, {argument(false), tree_.number(3)});
  if (name == "pi") return tree_.make(Kind::kPi, {});
  if (name == "e") return tree_.make(Kind::kE, {});
  if (name == "i" || name == "imath") return tree_.make(Kind::kImaginary, {});
  if (name == "infty") return tree_.make(Kind::kInfinity, {});
  if (name == "emptyset") return tree_.make(Kind::kSet, {});
  if (name.starts_with("mathbb:")) return tree_.make(Kind::kNumberSet, {}, name.substr(7));
  // An arrow over two letters has a direction, over one letter it is a typeface.
  if (name == "vec") {
    const bool is_named = peek().is("{") && peek(1).text.size() > 1 && peek(2).is("}");
    return is_named ? overline(name) : argument(false);
  }
  if (name == "overline" || name == "bar" || name == "widebar") return overline(name);
  if (name == "lfloor") return delimited("rfloor", Function::kFloor);
  if (name == "lceil") return delimited("rceil", Function::kCeil);
  if (name == "langle") return angle_brackets();
  if (name == "sum" || name == "prod" || name == "int" || name == "iint" || name == "oint" ||
      name == "lim")
    return big_operator(name);
  if (auto call = function(name)) return *call;
  for (const std::string_view other :
       {"and", "or", "cup", "cap", "setminus", "in", "notin", "mod", "pmod", "rfloor", "rceil",
        "rangle", "choose", "over", "percent", "circ", "to", "iff"})
    if (name == other) {
      --at_;
      fail("expected an expression");
    }
  // A mark before letters, as in \triangle ABC and \angle A, names one thing with them.
  return tree_.make(Kind::kSymbol, {}, "\\" + name);
}

/// What a command takes: a group, or one token. @param one_digit  \frac43 takes the 4 alone.
NodeId Parser::argument(bool one_digit) {
  const DepthGuard guard(*this);
  Token& token = tokens_[std::min(at_, tokens_.size() - 1)];
  if (token.is("{")) return group();
  if (token.kind == TokenKind::kNumber && one_digit && token.text.size() > 1) {
    const char digit = token.text[0];
    if (digit == '.') fail("expected a digit");
    token.text.erase(0, 1);
    return tree_.number(digit - '0');
  }
  if (token.kind == TokenKind::kNumber) {
    const Numeral numeral = read_numeral(take().text);
    const NodeId id = tree_.number(0);
    tree_[id].value = numeral.value;
    tree_[id].decimals = static_cast<int16_t>(numeral.decimals);
    return id;
  }
  return primary();
}

NodeId Parser::root() {
  NodeId index = tree_.number(2);
  if (take("[")) {
    const Restore no_bar(bar_closes_, false);
    index = sum();
    expect("]");
  }
  const NodeId radicand = argument(false);
  return tree_.make(Kind::kRoot, {radicand, index});
}

NodeId Parser::fraction(std::string_view name) {
  const NodeId above = argument(true);
  const NodeId below = argument(true);
  if (name == "binom") return tree_.call(Function::kBinomial, {above, below});
  // A fraction of numbers is a number: \frac{1}{2} needs no evaluation.
  const Node &a = tree_[above], &b = tree_[below];
  if (a.kind == Kind::kNumber && b.kind == Kind::kNumber && a.decimals < 0 && b.decimals < 0 &&
      !b.value.is_zero()) {
    Rational quotient;
    fmpq_div(quotient.get(), a.value.get(), b.value.get());
    const NodeId id = tree_.number(0);
    tree_[id].value = std::move(quotient);
    return id;
  }
  return tree_.make(Kind::kProduct, {above, tree_.make(Kind::kPower, {below, tree_.number(-1)})});
}

NodeId Parser::overline(const std::string& name) {
  return tree_.make(Kind::kSymbol, {}, concat(name, ":", raw_group()));
}

NodeId Parser::delimited(std::string_view close, Function function) {
  const Restore no_bar(bar_closes_, false);
  const NodeId inside = sum();
  if (!take_command(close)) fail(concat("expected \\", close));
  return tree_.call(function, {inside});
}

std::optional<NodeId> Parser::function(const std::string& name) {
  const FunctionEntry* entry = find_function(name);
  if (!entry) return std::nullopt;
  const DepthGuard guard(*this);
  std::optional<NodeId> base, raised;
  bool is_inverse = false;
  while (peek().is("_") || peek().is("^")) {
    const bool is_base = take().is("_");
    if (is_base && base) fail("two subscripts");
    if (!is_base && raised) fail("two exponents");
    const NodeId id = is_base ? argument(true) : exponent();
    (is_base ? base : raised) = id;
  }
  if (raised) {
    const Node& node = tree_[*raised];
    is_inverse = node.kind == Kind::kNumber && node.value == Rational(-1) &&
                 entry->inverse != Function::kExp;
  }
  std::vector<NodeId> arguments = function_arguments(entry->is_trigonometric && !is_inverse);
  const bool is_list = entry->function == Function::kGcd || entry->function == Function::kLcm ||
                       entry->function == Function::kMax || entry->function == Function::kMin;
  if (arguments.size() > 1 && !is_list) fail("a function with too many arguments");
  if (entry->function == Function::kLog && name != "ln")
    arguments.push_back(base ? *base : tree_.number(10));
  const Function called = is_inverse ? entry->inverse : entry->function;
  const NodeId call = tree_.call(called, std::move(arguments));
  return raised && !is_inverse ? tree_.make(Kind::kPower, {call, *raised}) : call;
}

/// sin(x), sin{x}, sin 2x, gcd(a, b).
std::vector<NodeId> Parser::function_arguments(bool is_trigonometric) {
  const Restore angle(in_angle_, is_trigonometric || in_angle_);
  if (peek().is("(") || peek().is("[") || peek().is("{")) {
    const bool is_group = peek().is("{");
    const NodeId inside = is_group ? group() : brackets();
    const Node& node = tree_[inside];
    const bool is_several = node.kind == Kind::kBrackets || node.kind == Kind::kSet;
    return is_several ? node.kids : std::vector<NodeId>{inside};
  }
  std::vector<NodeId> factors{peek().is("-") ? signed_factor() : factor()};
  auto is_more = [&] {
    if (!starts_factor() || unit_end(at_, nullptr) || peek().is("(")) return false;
    return peek().kind != TokenKind::kCommand || !find_function(peek().text);
  };
  while (is_more()) factors.push_back(factor());
  if (factors.size() == 1) return factors;
  return {tree_.make(Kind::kProduct, std::move(factors))};
}

/// The tokens of the group that follows, or one token, written one after the other.
std::string Parser::raw_group() {
  std::string text;
  if (!take("{")) return take().text;
  int open = 1;
  while (peek().kind != TokenKind::kEnd) {
    if (peek().is("{")) ++open;
    if (peek().is("}") && --open == 0) break;
    if (!text.empty() && peek().kind == TokenKind::kCommand) text += '\\';
    text += take().text;
  }
  expect("}");
  return text;
}

/// A finite sum or product over integers is a function; everything else is opaque.
NodeId Parser::big_operator(const std::string& name) {
  const size_t begin = at_ - 1;
  if ((name != "sum" && name != "prod") || !peek().is("_")) return opaque_rest(begin);
  expect("_");
  const bool is_group = take("{");
  const Restore index(i_is_symbol_, i_is_symbol_ || peek().is_word("i"));
  const NodeId symbol = primary();
  if (tree_[symbol].kind != Kind::kSymbol || !take("=")) return opaque_rest(begin);
  const NodeId first = is_group ? sum() : primary();
  if (is_group) expect("}");
  if (!take("^")) return opaque_rest(begin);
  const NodeId last = argument(false);
  if (tree_[last].kind == Kind::kInfinity) return opaque_rest(begin);
  const NodeId term = product();
  const Function function = name == "sum" ? Function::kSumOver : Function::kProductOver;
  return tree_.call(function, {term, symbol, first, last});
}

NodeId Parser::opaque_rest(size_t begin) {
  at_ = begin;
  int open = 0;
  std::vector<Token> rest;
  while (peek().kind != TokenKind::kEnd) {
    if (open == 0 && ends_element(at_) && !peek().is("|")) break;
    if (peek().is("{") || peek().is("(") || peek().is("[")) ++open;
    if (peek().is("}") || peek().is(")") || peek().is("]")) --open;
    rest.push_back(take());
  }
  return tree_.make(Kind::kOpaque, {}, normal_form(rest));
}

}  // namespace moerl::reward::math
