#pragma once
#include <optional>
#include <string_view>

#include "reward/math/rational.h"

namespace moerl::reward::math {

/// A number token's exact value, and how many digits follow its decimal point (-1: no point).
struct Numeral {
  Rational value;
  int decimals = -1;
};

/// Reads "12", "3.50", ".5", "1e-3", "0." exactly. REQUIRES: the text of a number token.
Numeral read_numeral(std::string_view text);

/// 10^exponent. REQUIRES: |exponent| <= 10000.
Rational power_of_ten(long exponent);

}  // namespace moerl::reward::math
