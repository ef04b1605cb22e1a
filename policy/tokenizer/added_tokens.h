#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moerl::policy {

/// A token that is found in the text as it stands, before any splitting.
struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;
  /// Looked for in the normalised text instead of the raw text.
  bool normalized = false;
  /// Takes the white space before it, or behind it, with it.
  bool lstrip = false, rstrip = false;
  /// Counts only where no word character touches it.
  bool single_word = false;
};

/// Finds added tokens: leftmost first, of several at one place the longest. Thread safe.
class AddedTokenFinder {
 public:
  /// `id` is -1 for text between tokens.
  using Visit = std::function<void(int32_t id, std::string_view text)>;

  /// @param tokens  contents that are not empty; of two equal ones the first counts.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// Visits the tokens and the text between them in order.
  /// @param parse_special  false leaves special tokens in the text.
  void find(std::string_view text, bool parse_special, const Visit& visit) const;

 private:
  struct Node {
    int32_t token = -1;  // index into tokens_
    std::unordered_map<char, int32_t> children;
  };
  const AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace moerl::policy
