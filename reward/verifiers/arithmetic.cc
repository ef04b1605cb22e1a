#include "reward/verifiers/arithmetic.h"

#include "common/check.h"

namespace moerl::reward {
namespace {

/// `n` is an integer, `~` a negation; the other kinds are their own characters.
struct Token {
  char kind;
  std::string_view text;
};

/// Raised and caught inside this file.
struct Refusal {
  Arithmetic::Outcome outcome;
  std::string detail;
};

[[noreturn]] void refuse(std::string detail) {
  throw Refusal{Arithmetic::Outcome::kMalformed, std::move(detail)};
}

[[noreturn]] void refuse_size(std::string_view what, size_t got, size_t limit) {
  throw Refusal{Arithmetic::Outcome::kTooLarge,
                concat(what, " ", got, " is over the limit ", limit)};
}

bool is_digit(char c) { return '0' <= c && c <= '9'; }

Token next_token(std::string_view text, const ArithmeticLimits& limits) {
  if (is_digit(text[0])) {
    size_t size = 1;
    while (size < text.size() && is_digit(text[size])) ++size;
    if (size > limits.max_digits) refuse_size("number of digits", size, limits.max_digits);
    return {'n', text.substr(0, size)};
  }
  if (std::string_view("+-*/()=").find(text[0]) != std::string_view::npos)
    return {text[0], text.substr(0, 1)};
  constexpr std::pair<std::string_view, char> kSpellings[] = {
      {"\u00D7", '*'}, {"\u00F7", '/'}, {"\u2212", '-'}};
  for (const auto& [spelling, kind] : kSpellings)
    if (text.starts_with(spelling)) return {kind, text.substr(0, spelling.size())};
  const auto byte = static_cast<unsigned char>(text[0]);
  if (0x20 <= byte && byte < 0x7F) refuse(concat("unexpected character '", text[0], "'"));
  refuse(concat("unexpected byte ", static_cast<int>(byte)));
}

std::vector<Token> tokenise(std::string_view text, const ArithmeticLimits& limits) {
  if (text.size() > limits.max_bytes) refuse_size("number of bytes", text.size(), limits.max_bytes);
  std::vector<Token> tokens;
  while (!text.empty()) {
    if (std::string_view(" \t\n\r\f\v").find(text[0]) != std::string_view::npos) {
      text.remove_prefix(1);
      continue;
    }
    tokens.push_back(next_token(text, limits));
    if (tokens.size() > limits.max_tokens)
      refuse_size("number of tokens", tokens.size(), limits.max_tokens);
    text.remove_prefix(tokens.back().text.size());
  }
  return tokens;
}

int precedence(char op) {
  switch (op) {
    case '(':
      return 0;
    case '+':
    case '-':
      return 1;
    case '*':
    case '/':
      return 2;
    default:
      return 3;  // signs
  }
}

/// Operator precedence parser that evaluates as it reads: two stacks instead of recursion.
class Evaluator {
 public:
  Evaluator(const ArithmeticLimits& limits, Arithmetic& out) : limits_(limits), out_(out) {}

  void operand(const Token& token) {
    switch (token.kind) {
      case 'n':
        out_.literals.emplace_back(std::string(token.text), 10);
        values_.emplace_back(out_.literals.back());
        expects_operand_ = false;
        return;
      case '(':
        if (++depth_ > limits_.max_depth) refuse_size("nesting", depth_, limits_.max_depth);
        operators_.push_back('(');
        return;
      case '+':
        return;
      case '-':
        operators_.push_back('~');
        return;
      default:
        refuse(concat("'", token.text, "' stands where a number belongs"));
    }
  }

  void binary_or_close(const Token& token) {
    if (token.kind == ')') {
      if (depth_ == 0) refuse("')' without '('");
      while (operators_.back() != '(') apply();
      operators_.pop_back();
      --depth_;
      return;
    }
    if (token.kind == 'n' || token.kind == '(')
      refuse(concat("no operator before '", token.text.substr(0, 20), "'"));
    while (!operators_.empty() && precedence(operators_.back()) >= precedence(token.kind)) apply();
    operators_.push_back(token.kind);
    expects_operand_ = true;
  }

  void read(const Token& token) { expects_operand_ ? operand(token) : binary_or_close(token); }

  void finish() {
    if (expects_operand_) refuse("the expression ends where a number belongs");
    if (depth_ > 0) refuse("'(' without ')'");
    while (!operators_.empty()) apply();
    if (!has_zero_division_) out_.value = std::move(values_.back());
  }

 private:
  void apply() {
    const char op = operators_.back();
    operators_.pop_back();
    if (op == '~') {
      values_.back() = -values_.back();
      return;
    }
    const mpq_class right = std::move(values_.back());
    values_.pop_back();
    mpq_class& left = values_.back();
    if (op == '+') left += right;
    if (op == '-') left -= right;
    if (op == '*') left *= right;
    if (op == '/') {
      // The rest is still parsed: a malformed text is malformed whatever its value.
      if (right == 0)
        has_zero_division_ = true;
      else
        left /= right;
    }
  }

  const ArithmeticLimits& limits_;
  Arithmetic& out_;
  std::vector<mpq_class> values_;
  std::vector<char> operators_;
  size_t depth_ = 0;
  bool expects_operand_ = true, has_zero_division_ = false;
};

/// The n of "= n": signs, then one integer.
mpz_class parse_claim(const Token* begin, const Token* end) {
  bool is_negative = false;
  for (; begin != end && (begin->kind == '-' || begin->kind == '+'); ++begin)
    is_negative ^= begin->kind == '-';
  if (end - begin != 1 || begin->kind != 'n')
    refuse("after '=' stands something else than one integer");
  const mpz_class value(std::string(begin->text), 10);
  return is_negative ? mpz_class(-value) : value;
}

}  // namespace

Arithmetic parse_arithmetic(std::string_view text, const ArithmeticLimits& limits) {
  Arithmetic out;
  try {
    const std::vector<Token> tokens = tokenise(text, limits);
    Evaluator evaluator(limits, out);
    const Token* token = tokens.data();
    const Token* end = token + tokens.size();
    for (; token != end && token->kind != '='; ++token) evaluator.read(*token);
    evaluator.finish();
    if (token != end) out.claimed = parse_claim(token + 1, end);
    out.outcome = Arithmetic::Outcome::kParsed;
  } catch (const Refusal& refusal) {
    out = {refusal.outcome, refusal.detail, {}, {}, {}};
  }
  return out;
}

}  // namespace moerl::reward
