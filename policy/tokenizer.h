#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::policy {

/// What the post-processor of a `tokenizer.json` puts around one text (`tokenizers` with
/// add_special_tokens=True), such as a beginning-of-sequence token in front.
struct TokenFrame {
  std::vector<int32_t> prefix, suffix;
};

/// A byte-level BPE tokenizer read from a Hugging Face `tokenizer.json`; encodes as the library
/// `tokenizers` does with add_special_tokens=False. Cheap to copy; const and thread safe.
///
/// Supported: normalizers NFC and none; pre-tokenizers Split, Digits, ByteLevel and a Sequence of
/// them; model BPE without unknown token; decoder ByteLevel. Everything else is refused by name.
/// Unicode is that of version 16 (inside a negated property in a class, that of PCRE2).
/// `truncation` and `padding` are not applied.
class Tokenizer {
 public:
  /// @throws IoError if the file cannot be read or is corrupt; ConfigError if it needs a feature
  ///   that is not supported. Both name the file and what was found.
  static Tokenizer from_file(const std::filesystem::path& path);
  /// @param name  how errors call the text.
  static Tokenizer from_json(std::string_view text, const std::string& name = "tokenizer.json");

  /// The tokens of `text`. Added tokens are found first; no token is put around the text, so a
  /// beginning-of-sequence token is there if and only if the text (the chat template) holds it.
  /// @param text  valid UTF-8, below 2 GiB.
  /// @param parse_special  false reads special tokens in the text as plain text (what a user typed
  ///   must not steer the model); added tokens that are not special are found all the same.
  /// @throws std::invalid_argument if the text is not valid UTF-8 or too long.
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;

  /// What the file would put around a text; encode() does not.
  const TokenFrame& frame() const;

  /// The text of `tokens`; bytes that are not UTF-8 become U+FFFD. decode(encode(x)) == x unless
  /// the file normalises, removes text, adds spaces or strips them. An added token stands for its
  /// content even if that is spelled in the byte alphabet ("é"), which `tokenizers` would read as
  /// bytes.
  /// @param skip_special  leaves special tokens out.
  /// @throws std::invalid_argument if an id is not of the vocabulary.
  std::string decode(std::span<const int32_t> tokens, bool skip_special = false) const;
  /// As decode(), but the bytes as they are.
  std::string decode_bytes(std::span<const int32_t> tokens, bool skip_special = false) const;

  /// The highest id + 1. A model may have more rows; those must never be sampled.
  int64_t vocab_size() const;
  /// False for an id out of range or in a gap of the vocabulary.
  bool has_token(int32_t id) const;
  /// The token whose bytes are exactly these (" the", not "Ġthe"); an added token goes first.
  std::optional<int32_t> token_id(std::string_view bytes) const;
  /// The bytes of a token; they live as long as a copy of the tokenizer.
  /// @throws std::invalid_argument if the id is not of the vocabulary.
  std::string_view token_bytes(int32_t id) const;
  /// Whether the file flags the token as special. @throws as token_bytes().
  bool is_special(int32_t id) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// Turns tokens into text while they are sampled, never cutting a character: the pieces put
/// together, finish() included, are Tokenizer::decode of all tokens. One stream, one thread.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
  /// The text that this token completes, empty while a character is unfinished.
  std::string push(int32_t id);
  /// The rest: U+FFFD for an unfinished character. The decoder is then as new.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace moerl::policy
