#include "reward/math/numerals.h"

#include <charconv>
#include <string>

namespace moerl::reward::math {

Rational power_of_ten(long exponent) {
  Rational power(1);
  fmpz* part = exponent < 0 ? power.denominator() : power.numerator();
  fmpz_set_ui(part, 10);
  fmpz_pow_ui(part, part, static_cast<unsigned long>(exponent < 0 ? -exponent : exponent));
  return power;
}

Numeral read_numeral(std::string_view text) {
  Numeral numeral;
  long exponent = 0;
  if (const size_t e = text.find('e'); e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    text = text.substr(0, e);
  }
  std::string digits;
  for (const char c : text) {
    if (c == '.')
      numeral.decimals = 0;
    else
      digits += c;
    if (c != '.' && numeral.decimals >= 0) ++numeral.decimals;
  }
  if (digits.empty()) digits.push_back('0');
  fmpz_set_str(numeral.value.numerator(), digits.c_str(), 10);
  const long shift = exponent - (numeral.decimals > 0 ? numeral.decimals : 0);
  if (shift != 0) {
    const Rational factor = power_of_ten(shift);
    fmpq_mul(numeral.value.get(), numeral.value.get(), factor.get());
  }
  return numeral;
}

}  // namespace moerl::reward::math
