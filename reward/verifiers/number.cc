#include "reward/verifiers/number.h"

#include <string>

namespace moerl::reward {
namespace {

constexpr size_t kMaxBytes = 256, kMaxExponentDigits = 3;
constexpr std::string_view kMinusSign = "\u2212";

bool is_digit(char c) { return '0' <= c && c <= '9'; }

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  size_t at() const { return at_; }
  void move_to(size_t at) { at_ = at; }
  size_t digits_ahead(size_t offset = 0) const {
    size_t count = 0;
    while (at_ + offset + count < text_.size() && is_digit(text_[at_ + offset + count])) ++count;
    return count;
  }
  std::string_view take(size_t size) {
    at_ += size;
    return text_.substr(at_ - size, size);
  }
  bool skip(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  /// -1 or 1 for a sign that was skipped, else 0.
  int sign() { return skip("-") || skip(kMinusSign) ? -1 : skip("+") ? 1 : 0; }
  bool sees(char c) const { return at_ < text_.size() && text_[at_] == c; }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

/// The digits of the integer part without their separators.
std::string take_integer(Cursor& cursor) {
  const size_t first = cursor.digits_ahead();
  std::string digits(cursor.take(first));
  if (first == 0 || first > 3) return digits;
  while (cursor.sees(',') && cursor.digits_ahead(1) == 3) {
    cursor.skip(",");
    digits += cursor.take(3);
  }
  return digits;
}

mpz_class power_of_ten(unsigned long exponent) {
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, exponent);
  return power;
}

long take_exponent(Cursor& cursor, bool& is_too_large) {
  const size_t start = cursor.at();
  if (!cursor.skip("e") && !cursor.skip("E")) return 0;
  const int sign = cursor.sign() < 0 ? -1 : 1;
  const size_t count = cursor.digits_ahead();
  if (count == 0) {
    cursor.move_to(start);
    return 0;
  }
  const std::string digits(cursor.take(count));
  is_too_large = is_too_large || count > kMaxExponentDigits;
  return is_too_large ? 0 : sign * std::stol(digits);
}

std::string take_denominator(Cursor& cursor) {
  const size_t count = cursor.sees('/') ? cursor.digits_ahead(1) : 0;
  if (count == 0) return "1";
  const size_t start = cursor.at();
  cursor.skip("/");
  const std::string digits(cursor.take(count));
  if (digits.find_first_not_of('0') != std::string::npos) return digits;
  cursor.move_to(start);
  return "1";
}

}  // namespace

std::optional<ScannedNumber> scan_number(std::string_view text) {
  Cursor cursor(text);
  int sign = cursor.sign();
  const bool is_money = cursor.skip("$");
  if (is_money && sign == 0) sign = cursor.sign();

  std::string digits = take_integer(cursor);
  size_t decimals = 0;
  if (cursor.sees('.') && cursor.digits_ahead(1) > 0) {
    cursor.skip(".");
    decimals = cursor.digits_ahead();
    digits += cursor.take(decimals);
  }
  if (digits.empty()) return std::nullopt;

  bool is_too_large = false;
  const long exponent = take_exponent(cursor, is_too_large) - static_cast<long>(decimals);
  const std::string denominator = take_denominator(cursor);
  ScannedNumber number{cursor.at(), std::nullopt};
  if (is_too_large || number.size > kMaxBytes) return number;

  mpq_class value(mpz_class(digits, 10), mpz_class(denominator, 10));
  if (exponent >= 0)
    value *= power_of_ten(static_cast<unsigned long>(exponent));
  else
    value /= power_of_ten(static_cast<unsigned long>(-exponent));
  value.canonicalize();
  number.value = sign < 0 ? mpq_class(-value) : value;
  return number;
}

}  // namespace moerl::reward
