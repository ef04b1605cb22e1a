#include "reward/verifiers/code_output.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

/// digits * 10^exponent without zeros at either end of the digits; zero has none.
struct Decimal {
  bool is_negative = false;
  std::string digits;
  int64_t exponent = 0;
  bool operator==(const Decimal&) const = default;
};

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal value;
  size_t at = 0;
  if (at < text.size() && (text[at] == '-' || text[at] == '+'))
    value.is_negative = text[at++] == '-';
  bool has_point = false, has_digit = false;
  for (; at < text.size(); ++at) {
    if (text[at] == '.' && !has_point) {
      has_point = true;
    } else if ('0' <= text[at] && text[at] <= '9') {
      has_digit = true;
      value.digits += text[at];
      value.exponent -= has_point;
    } else {
      break;
    }
  }
  if (!has_digit) return std::nullopt;
  if (at < text.size()) {
    if (text[at] != 'e' && text[at] != 'E') return std::nullopt;
    at += at + 1 < text.size() && text[at + 1] == '+' ? 2 : 1;
    int32_t exponent = 0;
    const auto [rest, error] =
        std::from_chars(text.data() + at, text.data() + text.size(), exponent);
    if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
    value.exponent += exponent;
  }
  value.digits.erase(0, value.digits.find_first_not_of('0'));
  while (!value.digits.empty() && value.digits.back() == '0') {
    value.digits.pop_back();
    ++value.exponent;
  }
  if (value.digits.empty()) return Decimal{};
  return value;
}

bool same_number(std::string_view got, std::string_view expected, double tolerance) {
  const auto a = parse_decimal(got), b = parse_decimal(expected);
  if (!a || !b) return false;
  if (*a == *b) return true;
  if (tolerance == 0) return false;
  double x = 0, y = 0;
  auto number = [](std::string_view text, double& value) {
    if (text.starts_with('+')) text.remove_prefix(1);
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
  };
  return number(got, x) && number(expected, y) &&
         std::abs(x - y) <= tolerance * std::max(1.0, std::abs(y));
}

/// Takes the first word off the text; empty at its end.
std::string_view next_word(std::string_view& text) {
  text = strip(text);
  const std::string_view word = text.substr(0, text.find_first_of(" \t\r\f\v"));
  text.remove_prefix(word.size());
  return word;
}

bool same_line(std::string_view got, std::string_view expected, double tolerance) {
  got = strip(got);
  expected = strip(expected);
  if (got == expected) return true;
  while (true) {
    const std::string_view a = next_word(got), b = next_word(expected);
    if (a.empty() || b.empty()) return a.empty() && b.empty();
    if (a != b && !same_number(a, b, tolerance)) return false;
  }
}

std::string_view next_line(std::string_view& text, bool& is_last) {
  const size_t end = text.find('\n');
  is_last = end == std::string_view::npos;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(is_last ? text.size() : end + 1);
  return line;
}

}  // namespace

bool same_output(std::string_view got, std::string_view expected, double tolerance) {
  got = strip(got);
  expected = strip(expected);
  for (bool got_ends = false, expected_ends = false;;) {
    const std::string_view a = next_line(got, got_ends), b = next_line(expected, expected_ends);
    if (!same_line(a, b, tolerance)) return false;
    if (got_ends || expected_ends) return got_ends && expected_ends;
  }
}

}  // namespace moerl::reward
