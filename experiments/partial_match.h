#pragma once
#include <algorithm>
#include <string_view>

namespace moerl {

/// Length of the longest end of `text` with which `word` begins, the whole word excepted: what must
/// be held back because more text may complete the word.
inline size_t partial_match(std::string_view text, std::string_view word) {
  if (word.empty()) return 0;
  for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n)
    if (text.substr(text.size() - n) == word.substr(0, n)) return n;
  return 0;
}

}  // namespace moerl
