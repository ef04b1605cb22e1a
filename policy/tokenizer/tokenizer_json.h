#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/tokenizer.h"
#include "policy/tokenizer/added_tokens.h"
#include "policy/tokenizer/pre_tokenizer.h"

namespace moerl::policy {

/// A `tokenizer.json` whose every entry is known to be supported.
struct TokenizerFile {
  bool normalize_nfc = false;
  PreTokenizerConfig pre_tokenizer;
  std::vector<AddedToken> added_tokens;
  /// Spelling (byte alphabet) and id.
  std::vector<std::pair<std::string, int32_t>> vocab;
  /// Spellings of left and right, in rank order.
  std::vector<std::pair<std::string, std::string>> merges;
  TokenFrame frame;
  /// A piece that is in the vocabulary is that token, whatever the merges say.
  bool ignore_merges = false;
};

/// Reads the text of a `tokenizer.json` of byte-level BPE.
/// @param name  how errors call it, such as the file's path.
/// @throws IoError if the text is not JSON or lacks a part; ConfigError if it asks for a
/// normalizer,
///   pre-tokenizer, model or decoder that is not supported; both name what was found.
TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& name);

}  // namespace moerl::policy
