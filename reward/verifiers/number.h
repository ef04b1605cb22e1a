#pragma once
#include <gmpxx.h>

#include <optional>
#include <string_view>

namespace moerl::reward {

/// A number at the front of a text.
struct ScannedNumber {
  /// Bytes that it takes, sign and currency sign included.
  size_t size = 0;
  /// Empty if it is larger than the limits (256 bytes, exponent of at most 3 digits).
  std::optional<mpq_class> value;
};

/// Reads the longest number that `text` starts with, as an exact rational:
///
///   number   := sign? '$'? sign? decimal exponent? ('/' digit+)?
///   decimal  := integer ['.' digit+] | '.' digit+
///   integer  := digit{1,3} (',' digit{3})+ | digit+
///   exponent := ('e' | 'E') sign? digit{1,3}
///   sign     := '+' | '-' | U+2212
///
/// A comma that does not separate groups of exactly three digits ends the number. A denominator of
/// zero is not read.
/// @return empty optional if the text does not start with a number.
std::optional<ScannedNumber> scan_number(std::string_view text);

}  // namespace moerl::reward
