#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace moerl::policy {

/// What stands at the start of a byte string.
struct Utf8Step {
  enum class Kind { kValid, kInvalid, kIncomplete };
  Kind kind;
  /// Bytes of the character, or of the maximal invalid part (Unicode 15, 3.9, U+FFFD substitution
  /// of maximal subparts), or of the beginning of a character that more bytes may complete.
  size_t length;
};

/// Looks at the first character. @param bytes  not empty.
Utf8Step next_utf8(std::string_view bytes);

/// The offset of the first byte that is not valid UTF-8, or the size if all of it is.
size_t valid_utf8_prefix(std::string_view bytes);

/// Appends `bytes` to `out` with every invalid part replaced by U+FFFD and returns how many bytes
/// were used: all of them, except that with `keep_incomplete` the unfinished character at the end
/// is left to the caller.
size_t append_utf8_lossy(std::string_view bytes, bool keep_incomplete, std::string& out);

}  // namespace moerl::policy
