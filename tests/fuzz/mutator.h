#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/rng.h"

namespace moerl::testing {

/// Changes inputs in the ways that find holes in parsers. A function of the seed alone.
class Mutator {
 public:
  /// @param corpus  inputs to start from; must not be empty and must outlive the mutator.
  Mutator(const std::vector<std::string>& corpus, uint64_t seed) : corpus_(corpus), rng_(seed) {}

  /// An input of the corpus with one to eight changes, at most kMaxBytes long.
  std::string next() {
    std::string text = pick();
    for (uint32_t n = 1 + rng_.below(8); n > 0; --n) change(text);
    if (text.size() > kMaxBytes) text.resize(kMaxBytes);
    return text;
  }

  static constexpr size_t kMaxBytes = 1 << 16;

 private:
  const std::string& pick() { return corpus_[rng_.below(static_cast<uint32_t>(corpus_.size()))]; }
  size_t place(const std::string& text) {
    return rng_.below(static_cast<uint32_t>(text.size()) + 1);
  }
  /// A length, mostly short.
  size_t length(size_t most) {
    const uint32_t cap = rng_.below(4) == 0 ? 256 : 8;
    return std::min<size_t>(1 + rng_.below(cap), most);
  }

  void change(std::string& text) {
    const size_t at = place(text), left = text.size() - at;
    switch (rng_.below(8)) {
      case 0:  // flip a bit
        if (left > 0) text[at] = static_cast<char>(text[at] ^ (1 << rng_.below(8)));
        return;
      case 1:  // any byte
        if (left > 0) text[at] = static_cast<char>(rng_.below(256));
        return;
      case 2:
        text.erase(at, length(left));
        return;
      case 3:  // repeat a piece
        text.insert(place(text), text.substr(at, length(left)));
        return;
      case 4: {  // a piece of another input
        const std::string& other = pick();
        const size_t from = place(other);
        text.insert(at, other.substr(from, length(other.size() - from)));
        return;
      }
      case 5:
        text.insert(at, kTokens[rng_.below(std::size(kTokens))]);
        return;
      case 6:
        replace_number(text, at);
        return;
      default:  // cut short
        if (rng_.below(8) == 0) text.resize(at);
        return;
    }
  }

  /// The next run of digits becomes an extreme.
  void replace_number(std::string& text, size_t at) {
    const size_t begin = text.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    const size_t end = std::min(text.find_first_not_of("0123456789", begin), text.size());
    text.replace(begin, end - begin, kNumbers[rng_.below(std::size(kNumbers))]);
  }

  static constexpr std::string_view kTokens[] = {
      "{",  "}",    "[",  "]",  ":",    ",",    "\"",      "'",    "\\",   "\n",  "\t",
      "- ", "null", "{}", "[]", "true", "\"\"", "\\u0000", "\xFF", "\xC3", "&a ", "*a",
      "!!", "|\n",  "? ", "<<", "..",   "/",    "$",       "\\",   "<",    ">",   "%"};
  static constexpr std::string_view kNumbers[] = {
      "0",          "1",          "-1",
      "1.5",        "1e999",      "-0",
      "127",        "128",        "65536",
      "2147483648", "4294967295", "9223372036854775807",
      "00",         "1e-320",     "9223372036854775808",
      "3000000",    "0x10",       "18446744073709551615"};

  const std::vector<std::string>& corpus_;
  Rng rng_;
};

}  // namespace moerl::testing
