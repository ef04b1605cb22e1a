#pragma once
#include <string>
#include <vector>

namespace moerl::policy {

/// What a small tokenizer, made for one task, is to hold.
struct TokenizerSpec {
  /// Text that becomes one token where the pre-tokenizer leaves it as one piece. Repeats are fine.
  std::vector<std::string> tokens;
  /// Special added tokens, which get the ids 0, 1, …
  std::vector<std::string> special_tokens;
  /// Added tokens that are not special; they get the highest ids.
  std::vector<std::string> added_tokens;
  /// Cuts text into pieces, matches isolated (Oniguruma syntax). The default takes digits three at
  /// a time from the left, words with a space before them, and runs of signs.
  std::string split_regex = R"(\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
};

/// Writes a byte-level BPE `tokenizer.json` that Tokenizer and Hugging Face `tokenizers` load.
/// Ids: special tokens, the 256 bytes in the order of the byte alphabet's code points, results of
/// merges in rank order, added tokens.
///
/// The tokens are built in order of length, each from left to right out of what it is cut into
/// already, so a common beginning is shared; the steps on the way are entries of the vocabulary
/// too. A merge ranks behind all before it and so cannot disturb the tokens that those build.
///
/// @throws std::invalid_argument if a token is empty or not UTF-8, or the pre-tokenizer or an added
///   token cuts it; ConfigError if split_regex is not understood.
std::string build_tokenizer_json(const TokenizerSpec& spec);

}  // namespace moerl::policy
