#include <algorithm>

#include "reward/ascii.h"
#include "reward/math/numerals.h"
#include "reward/math/parser.h"
#include "reward/math/vocabulary.h"

namespace moerl::reward::math {
namespace {

bool is_operator(const Token& token) {
  return token.kind == TokenKind::kSymbol && token.text != "," && token.text != "." &&
         token.text != ";" && token.text != "'";
}

}  // namespace

bool Parser::starts_factor() const {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kNumber:
    case TokenKind::kBegin:
      return true;
    case TokenKind::kWord:
      return scale_of(token.text) == 0;
    case TokenKind::kSymbol:
      return token.is("(") || token.is("{") || (token.is("|") && !bar_closes_);
    case TokenKind::kCommand:
      for (const std::string_view other :
           {"and",     "or",       "cup",    "cap",    "setminus", "in",       "notin",
            "mod",     "pmod",     "rfloor", "rceil",  "rangle",   "choose",   "over",
            "percent", "circ",     "sim",    "propto", "subset",   "subseteq", "supset",
            "perp",    "parallel", "iff",    "to",     "ll",       "gg"})
        if (token.text == other) return false;
      return true;
    default:
      return false;
  }
}

NodeId Parser::signed_factor() {
  bool is_minus = false;
  while (peek().is("+") || peek().is("-")) is_minus ^= take().text == "-";
  const NodeId id = factor();
  return is_minus ? tree_.negate(id) : id;
}

NodeId Parser::factor() {
  const DepthGuard guard(*this);
  return postfix(primary());
}

NodeId Parser::postfix(NodeId base) {
  while (true) {
    if (peek().is("^")) {
      base = power(base);
    } else if (peek().is("_")) {
      base = subscript(base);
    } else if (peek().is("!")) {
      ++at_;
      const bool is_double = take("!");
      base = tree_.call(is_double ? Function::kDoubleFactorial : Function::kFactorial, {base});
    } else if (peek().is("%") || peek().is_command("percent")) {
      ++at_;
      base = tree_.make(Kind::kQuantity, {base}, "%");
    } else if (peek().is_command("circ")) {
      ++at_;
      base = degrees(base);
    } else if (peek().is("'") && tree_[base].kind == Kind::kSymbol) {
      ++at_;
      const std::string text = tree_[base].text + "'";
      base = tree_.make(Kind::kSymbol, {}, text);
    } else {
      return base;
    }
  }
}

/// A degree sign in the place of an exponent: ^\circ, ^{\circ}, ^o is left alone.
bool Parser::take_degree() {
  if (peek().is_command("circ")) {
    ++at_;
    return true;
  }
  if (!peek().is("{") || !peek(1).is_command("circ") || !peek(2).is("}")) return false;
  at_ += 3;
  return true;
}

/// An angle, or a temperature: "20^\\circ C".
NodeId Parser::degrees(NodeId base) {
  if (in_angle_) return tree_.make(Kind::kQuantity, {base}, "angle");
  std::string unit = "deg";
  const Token& scale = peek();
  const bool is_scale = scale.kind == TokenKind::kWord && (scale.text == "C" || scale.text == "F");
  if (is_scale && ends_element(at_ + 1)) unit += take().text;
  return tree_.make(Kind::kQuantity, {base}, unit);
}

NodeId Parser::power(NodeId base) {
  expect("^");
  if (take_degree()) return degrees(base);
  // 3^{rd}
  if (peek().is("{") && unit_name(peek(1).text) == kCounted && peek(2).is("}")) {
    at_ += 3;
    return base;
  }
  if (peek().is("'") || (peek().is("{") && peek(1).is("'"))) {
    const std::string mark = raw_group();
    return tree_.make(Kind::kSymbol, {}, tree_[base].text + mark);
  }
  return tree_.make(Kind::kPower, {base, exponent()});
}

NodeId Parser::exponent() {
  const DepthGuard guard(*this);
  bool is_minus = false;
  while (peek().is("+") || peek().is("-")) is_minus ^= take().text == "-";
  NodeId id;
  if (peek().is("{")) {
    id = group();
  } else if (peek().kind == TokenKind::kWord && !peek().is_text && peek().text.size() > 1) {
    // x^ab is x^a times b.
    Token& token = tokens_[at_];
    const std::string first = token.text.substr(0, 1);
    token.text.erase(0, 1);
    id = first == "e"   ? tree_.make(Kind::kE, {})
         : first == "i" ? tree_.make(Kind::kImaginary, {})
                        : tree_.make(Kind::kSymbol, {}, first);
  } else {
    id = primary();
  }
  // Towers are read from the right: 2^3^4 = 2^(3^4).
  if (peek().is("^")) id = power(id);
  if (peek().is("!")) {
    ++at_;
    id = tree_.call(Function::kFactorial, {id});
  }
  return is_minus ? tree_.negate(id) : id;
}

NodeId Parser::subscript(NodeId base) {
  const DepthGuard guard(*this);
  expect("_");
  const Node& node = tree_[base];
  if (node.kind == Kind::kNumber && node.value.sign() >= 0) {
    const std::string digits =
        tokens_[at_ - 2].is(")") ? tokens_[at_ - 3].text : tokens_[at_ - 2].text;
    std::string text = raw_group();
    if (text.starts_with('(') && text.ends_with(')')) text = text.substr(1, text.size() - 2);
    static constexpr std::pair<std::string_view, long> kWords[] = {
        {"two", 2},   {"three", 3}, {"four", 4}, {"five", 5},    {"six", 6},     {"seven", 7},
        {"eight", 8}, {"nine", 9},  {"ten", 10}, {"twelve", 12}, {"sixteen", 16}};
    long radix = 0;
    for (const auto& [word, value] : kWords)
      if (text == word) radix = value;
    if (radix == 0 && text.size() <= 3 && !text.empty() &&
        std::all_of(text.begin(), text.end(), [](char c) { return '0' <= c && c <= '9'; }))
      radix = read_numeral(text).value.to_long();
    if (radix < 2) fail("the base of a number is no integer above 1");
    const NodeId id = tree_.make(Kind::kBased, {}, digits);
    tree_[id].value = Rational(radix);
    return id;
  }
  if (node.kind != Kind::kSymbol && node.kind != Kind::kE && node.kind != Kind::kImaginary)
    fail("a subscript of what is no symbol");
  const std::string name = node.kind == Kind::kE           ? "e"
                           : node.kind == Kind::kImaginary ? "i"
                                                           : node.text;
  return tree_.make(Kind::kSymbol, {}, name + "_" + raw_group());
}

NodeId Parser::primary() {
  const DepthGuard guard(*this);
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kNumber:
      return number();
    case TokenKind::kWord:
      return word();
    case TokenKind::kCommand:
      return command();
    case TokenKind::kBegin:
      return environment();
    case TokenKind::kSymbol:
      if (token.is("(") || token.is("[") || token.is("]")) return brackets();
      if (token.is("{")) return group();
      if (token.is("\\{")) return set();
      if (token.is("|")) return absolute_value();
      break;
    default:
      break;
  }
  fail("expected an expression");
}

NodeId Parser::number() {
  const std::string text = take().text;
  Numeral numeral = read_numeral(text);
  const bool has_bar = peek().is_command("overline") || peek().is_command("bar") ||
                       peek().is_command("dot") || peek().is_command("underline");
  if (numeral.decimals >= 0 && has_bar) {
    const Rational tail = repeating_digits(text);
    fmpq_add(numeral.value.get(), numeral.value.get(), tail.get());
    numeral.decimals = -1;
  } else if (numeral.decimals < 0) {
    if (const auto fraction = mixed_fraction())
      fmpq_add(numeral.value.get(), numeral.value.get(), fraction->get());
  }
  Node node;
  node.value = std::move(numeral.value);
  node.decimals = static_cast<int16_t>(numeral.decimals);
  return tree_.add(std::move(node));
}

/// An unsigned integer in braces or bare; `at` moves past it.
std::optional<Rational> Parser::small_integer_group(size_t& at) const {
  const bool is_group = tokens_[at].is("{");
  const Token& token = tokens_[at + is_group];
  if (token.kind != TokenKind::kNumber || token.text.find_first_of(".e") != std::string::npos)
    return std::nullopt;
  if (is_group && !tokens_[at + 2].is("}")) return std::nullopt;
  at += is_group ? 3 : 1;
  return read_numeral(token.text).value;
}

/// The fraction of a mixed number that starts here: \frac{4}{5}, \frac45 or 4/5, proper.
std::optional<Rational> Parser::mixed_fraction() {
  std::optional<Rational> above, below;
  size_t at = at_;
  if (peek().is_command("frac")) {
    ++at;
    if (tokens_[at].kind == TokenKind::kNumber && tokens_[at].text.size() == 2) {
      above = read_numeral(tokens_[at].text.substr(0, 1)).value;
      below = read_numeral(tokens_[at].text.substr(1)).value;
      ++at;
    } else {
      above = small_integer_group(at);
      if (above) below = small_integer_group(at);
    }
  } else if (peek().kind == TokenKind::kNumber && peek().has_space && peek(1).is("/") &&
             peek(2).kind == TokenKind::kNumber) {
    above = small_integer_group(at);
    ++at;
    below = small_integer_group(at);
  }
  if (!above || !below || below->is_zero() || above->is_zero() ||
      fmpq_cmp(above->get(), below->get()) >= 0)
    return std::nullopt;
  if (tokens_[at].is("^") || tokens_[at].is("_")) return std::nullopt;
  at_ = at;
  fmpq_div(above->get(), above->get(), below->get());
  return above;
}

/// What follows 0.1 in 0.1\overline{6}.
Rational Parser::repeating_digits(const std::string& text) {
  ++at_;
  const std::string digits = raw_group();
  const bool is_number = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
    return '0' <= c && c <= '9';
  });
  if (!is_number) fail("expected repeating digits");
  const long shift = static_cast<long>(text.size() - text.find('.') - 1);
  Rational tail = read_numeral(digits).value;
  Rational nines = power_of_ten(static_cast<long>(digits.size()));
  fmpq_sub_si(nines.get(), nines.get(), 1);
  fmpq_div(tail.get(), tail.get(), nines.get());
  fmpq_mul(tail.get(), tail.get(), power_of_ten(-shift).get());
  return tail;
}

/// A letter of a run of letters is a symbol of its own; the rest of the run stays. A run that looks
/// like a word is none.
NodeId Parser::word() {
  Token& token = tokens_[at_];
  const std::string text = token.text;
  const bool is_ascii = std::all_of(text.begin(), text.end(), is_letter);
  if (!is_ascii) fail("a word");
  if (text.size() > 1 && split_word_ != at_) {
    const bool is_upper = std::all_of(text.begin(), text.end(), [](char c) { return c <= 'Z'; });
    if (token.is_text || (!is_upper && is_function_word(text))) fail("a word");
    if (text.size() >= 4 && !is_upper) fail("a word");
    if (text.size() == 3 || (text.size() >= 4 && is_upper)) {
      const bool is_first = at_ == 0 || tokens_[at_ - 1].kind == TokenKind::kEnd;
      const bool touches_left =
          !is_first && (is_operator(tokens_[at_ - 1]) ||
                        (tokens_[at_ - 1].kind == TokenKind::kNumber && !token.has_space));
      if (!touches_left && !is_operator(peek(1))) fail("a word");
    }
  }
  const std::string name = text.substr(0, 1);
  if (text.size() == 1) {
    ++at_;
  } else {
    token.text.erase(0, 1);
    split_word_ = at_;
  }
  // P(x) = ... is about a function, whatever its letter.
  const bool is_defined = peek().is("(") && peek(1).kind == TokenKind::kWord &&
                          peek(1).text.size() == 1 && peek(2).is(")") && peek(3).is("=") &&
                          (at_ == 1 || ends_element(at_ - 2));
  const bool is_function = name == "f" || name == "g" || name == "h" || is_defined;
  if (is_function && text.size() == 1) {
    const bool is_inverse = peek().is("^") && peek(1).is("{") && peek(2).is("-") &&
                            peek(3).text == "1" && peek(4).is("}") && peek(5).is("(");
    if (is_inverse) at_ += 5;
    if (peek().is("("))
      return tree_.make(Kind::kCall, {brackets()}, name + (is_inverse ? "^-1" : ""));
  }
  if (name == "e") return tree_.make(Kind::kE, {});
  if (name == "i" && !i_is_symbol_) return tree_.make(Kind::kImaginary, {});
  return tree_.make(Kind::kSymbol, {}, name);
}

}  // namespace moerl::reward::math
