#pragma once
#include <gmpxx.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::reward {

/// Bounds on the work of parse_arithmetic.
struct ArithmeticLimits {
  size_t max_bytes = 2048;
  size_t max_tokens = 512;
  size_t max_digits = 64;  ///< of one integer
  size_t max_depth = 64;   ///< of parentheses
};

/// What parse_arithmetic found.
struct Arithmetic {
  enum class Outcome { kParsed, kMalformed, kTooLarge };
  Outcome outcome = Outcome::kMalformed;
  /// Why it is malformed or too large.
  std::string detail;
  /// The integers of the expression, from left to right, without sign.
  std::vector<mpz_class> literals;
  /// The exact value; empty if there is a division by zero.
  std::optional<mpq_class> value;
  /// n of a trailing "= n".
  std::optional<mpz_class> claimed;
};

/// Parses and evaluates an arithmetic expression exactly.
///
///   text       := sum [ '=' sign* integer ]
///   sum        := product (('+' | '-') product)*
///   product    := factor (('*' | '/') factor)*
///   factor     := ('+' | '-') factor | integer | '(' sum ')'
///   integer    := digit+
///
/// U+00D7, U+00F7 and U+2212 are other spellings of * / -. ASCII white space separates tokens.
/// There are no decimals, powers ("**"), integer divisions ("//") and no products without a sign.
/// Uses no recursion; the work is bounded by the limits, and the value has at most max_bytes
/// digits.
Arithmetic parse_arithmetic(std::string_view text, const ArithmeticLimits& limits = {});

}  // namespace moerl::reward
