#pragma once

namespace moerl::reward {

// The C library's predicates follow the locale; these do not.
constexpr bool is_digit(char c) { return '0' <= c && c <= '9'; }
constexpr bool is_upper(char c) { return 'A' <= c && c <= 'Z'; }
constexpr bool is_letter(char c) { return is_upper(c) || ('a' <= c && c <= 'z'); }
constexpr bool is_space(char c) { return c == ' ' || ('\t' <= c && c <= '\r'); }
constexpr char to_lower(char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace moerl::reward
