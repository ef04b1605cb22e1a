#pragma once
#include <string>
#include <string_view>

namespace moerl::reward {

/// The text with every byte that is no part of well formed UTF-8 (Unicode 15, table 3-7) replaced
/// by U+FFFD. A completion may end within a character; protobuf and JSON carry only whole ones.
std::string to_valid_utf8(std::string_view text);

}  // namespace moerl::reward
