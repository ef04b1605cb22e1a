#include "policy/tokenizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <unordered_map>

#include "common/check.h"
#include "common/file.h"
#include "policy/tokenizer/added_tokens.h"
#include "policy/tokenizer/byte_alphabet.h"
#include "policy/tokenizer/byte_pair_encoder.h"
#include "policy/tokenizer/pre_tokenizer.h"
#include "policy/tokenizer/tokenizer_json.h"
#include "policy/tokenizer/utf8.h"

namespace moerl::policy {
namespace {

struct Token {
  std::string bytes;
  bool exists = false;
  bool is_special = false;
};

using VocabIds = std::unordered_map<std::string_view, int32_t>;

/// Byte strings to tokens; open addressing over the token list, which outlives it.
class TokenTable {
 public:
  void build(const std::vector<Token>& tokens, const std::vector<int32_t>& ids) {
    tokens_ = &tokens;
    slots_.assign(std::bit_ceil(ids.size() * 2 + 2), -1);
    for (int32_t id : ids) {
      int32_t& slot = slots_[probe(tokens[static_cast<size_t>(id)].bytes)];
      if (slot < 0) slot = id;
    }
  }
  /// The token, or -1.
  int32_t find(std::string_view bytes) const { return slots_[probe(bytes)]; }

 private:
  size_t probe(std::string_view bytes) const {
    const size_t mask = slots_.size() - 1;
    size_t i = std::hash<std::string_view>{}(bytes)&mask;
    while (slots_[i] >= 0 && (*tokens_)[static_cast<size_t>(slots_[i])].bytes != bytes)
      i = (i + 1) & mask;
    return i;
  }
  const std::vector<Token>* tokens_ = nullptr;
  std::vector<int32_t> slots_;
};

/// NFC as of Unicode 9, the version of the reference's tables (unicode-normalization-alignments):
/// what came later is passed over, and neither moves nor joins.
const icu::Normalizer2& reference_nfc() {
  struct Parts {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet known{icu::UnicodeString("[:age=9.0:]"), status};
    icu::FilteredNormalizer2 nfc;
    Parts() : nfc(*icu::Normalizer2::getNFCInstance(status), known) {
      if (U_FAILURE(status))
        throw std::runtime_error(concat("tokenizer: no NFC: ", u_errorName(status)));
      known.freeze();
    }
  };
  static const Parts parts;
  return parts.nfc;
}

std::string normalize_nfc(std::string_view text) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  reference_nfc().normalizeUTF8(0, {text.data(), static_cast<int32_t>(text.size())}, sink, nullptr,
                                status);
  if (U_FAILURE(status))
    throw std::runtime_error(concat("tokenizer: NFC failed: ", u_errorName(status)));
  return out;
}

/// The text in which the token is found, and to which it is decoded.
std::string added_text(const AddedToken& token, const TokenizerFile& file) {
  return token.normalized && file.normalize_nfc ? normalize_nfc(token.content) : token.content;
}

std::array<int32_t, 256> find_byte_ids(const VocabIds& vocab, const std::string& name) {
  std::array<int32_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    const std::string& symbol = byte_symbol(static_cast<uint8_t>(byte));
    const auto item = vocab.find(symbol);
    const bool never_in_utf8 = byte == 0xC0 || byte == 0xC1 || byte >= 0xF5;
    if (item == vocab.end() && !never_in_utf8)
      throw IoError(concat(name, ": model.vocab lacks byte ", byte, ", spelled '", symbol,
                           "', expected all bytes that UTF-8 uses"));
    ids[static_cast<size_t>(byte)] = item == vocab.end() ? -1 : item->second;
  }
  return ids;
}

std::vector<BytePairEncoder::Merge> find_merges(const TokenizerFile& file, const VocabIds& vocab,
                                                const std::string& name) {
  std::vector<BytePairEncoder::Merge> merges;
  merges.reserve(file.merges.size());
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    const std::string &left = file.merges[rank].first, &right = file.merges[rank].second;
    const auto id = [&](const std::string& token) {
      const auto item = vocab.find(token);
      if (item == vocab.end())
        throw IoError(concat(name, ": model.merges[", rank, "] is '", left, "' + '", right,
                             "' but '", token, "' is not in model.vocab"));
      return item->second;
    };
    merges.push_back({id(left), id(right), id(left + right)});
  }
  return merges;
}

}  // namespace

struct Tokenizer::State {
  State(const TokenizerFile& file, const std::string& name);

  void add_vocab(const TokenizerFile& file, const std::string& name);
  void add_added_tokens(const TokenizerFile& file, const std::string& name);
  void build_tables(const TokenizerFile& file);
  const Token& token(int32_t id) const;
  void encode_text(std::string_view text, std::vector<int32_t>& out) const;

  VocabIds vocab;  // by spelling; only during construction
  std::vector<Token> tokens;
  bool normalizes_nfc;
  TokenFrame frame;
  PreTokenizer pre_tokenizer;
  BytePairEncoder encoder;
  AddedTokenFinder raw_finder, normalized_finder;
  TokenTable by_bytes;
  // The tokens that a piece of exactly their bytes becomes: most words take this short cut.
  TokenTable whole_pieces;

 private:
  static VocabIds index(const TokenizerFile& file) {
    VocabIds ids;
    ids.reserve(file.vocab.size());
    for (const auto& [spelling, id] : file.vocab) ids.emplace(spelling, id);
    return ids;
  }
  static std::vector<AddedToken> select(const TokenizerFile& file, bool normalized) {
    std::vector<AddedToken> selected;
    for (AddedToken token : file.added_tokens) {
      if (token.normalized != normalized) continue;
      token.content = added_text(token, file);
      selected.push_back(std::move(token));
    }
    // Of equal contents the special one counts.
    std::stable_partition(selected.begin(), selected.end(),
                          [](const AddedToken& token) { return token.special; });
    return selected;
  }
};

Tokenizer::State::State(const TokenizerFile& file, const std::string& name)
    : vocab(index(file)),
      normalizes_nfc(file.normalize_nfc),
      frame(file.frame),
      pre_tokenizer(file.pre_tokenizer),
      encoder(find_byte_ids(vocab, name), find_merges(file, vocab, name)),
      raw_finder(select(file, false)),
      normalized_finder(select(file, true)) {
  int32_t highest = -1;
  for (const auto& [spelling, id] : file.vocab) highest = std::max(highest, id);
  for (const AddedToken& added : file.added_tokens) highest = std::max(highest, added.id);
  const size_t count = file.vocab.size() + file.added_tokens.size();
  if (static_cast<size_t>(highest) >= 2 * count + 65536)
    throw IoError(concat(name, ": the highest id is ", highest, " with only ", count, " tokens"));
  tokens.resize(static_cast<size_t>(highest) + 1);
  add_vocab(file, name);
  add_added_tokens(file, name);
  build_tables(file);
  for (const auto* ids : {&frame.prefix, &frame.suffix})
    for (int32_t id : *ids)
      if (id > highest || !tokens[static_cast<size_t>(id)].exists)
        throw IoError(concat(name, ": post_processor adds id ", id, ", which is no token"));
  vocab = {};
}

void Tokenizer::State::add_vocab(const TokenizerFile& file, const std::string& name) {
  for (const auto& [spelling, id] : file.vocab) {
    Token& token = tokens[static_cast<size_t>(id)];
    if (token.exists)
      throw IoError(concat(name, ": model.vocab gives id ", id, " to '", spelling, "' and to '",
                           token.bytes, "'"));
    token.bytes = symbols_to_bytes(spelling).value_or(spelling);
    token.exists = true;
  }
}

void Tokenizer::State::add_added_tokens(const TokenizerFile& file, const std::string& name) {
  for (const AddedToken& added : file.added_tokens) {
    Token& token = tokens[static_cast<size_t>(added.id)];
    const auto known = vocab.find(added.content);
    const bool is_known = known != vocab.end();
    if (is_known ? known->second != added.id : token.exists && token.bytes != added.content)
      throw IoError(concat(
          name, ": added token '", added.content, "' has id ", added.id, ", but model.vocab says ",
          is_known ? concat(known->second) : concat("that this id is '", token.bytes, "'")));
    token.bytes = added_text(added, file);
    token.exists = true;
    token.is_special = token.is_special || added.special;
  }
}

void Tokenizer::State::build_tables(const TokenizerFile& file) {
  std::vector<int32_t> ids;
  for (const AddedToken& added : file.added_tokens) ids.push_back(added.id);
  std::vector<int32_t> whole, encoded;
  for (const auto& [spelling, id] : file.vocab) {
    ids.push_back(id);
    const std::optional<std::string> bytes = symbols_to_bytes(spelling);
    if (!bytes || bytes->empty()) continue;
    encoded.clear();
    encoder.encode(*bytes, encoded);
    const bool is_whole = encoded.size() == 1 && encoded[0] == id;
    // An added token's bytes may differ from what its vocabulary entry spells.
    if ((is_whole || file.ignore_merges) && tokens[static_cast<size_t>(id)].bytes == *bytes)
      whole.push_back(id);
  }
  by_bytes.build(tokens, ids);
  whole_pieces.build(tokens, whole);
}

const Token& Tokenizer::State::token(int32_t id) const {
  const bool is_in_range = id >= 0 && static_cast<size_t>(id) < tokens.size();
  check(is_in_range && tokens[static_cast<size_t>(id)].exists, "tokenizer: id ", id,
        " is no token, expected one of 0 to ", tokens.size() - 1);
  return tokens[static_cast<size_t>(id)];
}

void Tokenizer::State::encode_text(std::string_view text, std::vector<int32_t>& out) const {
  pre_tokenizer.split(text, [&](std::string_view piece) {
    const int32_t whole = whole_pieces.find(piece);
    if (whole >= 0)
      out.push_back(whole);
    else
      encoder.encode(piece, out);
  });
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json(read_file(path), path.string());
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& name) {
  const TokenizerFile file = parse_tokenizer_json(text, name);
  try {
    return Tokenizer(std::make_shared<const State>(file, name));
  } catch (const ConfigError& error) {
    throw ConfigError(concat(name, ": ", error.what()));
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  check(text.size() < size_t{1} << 31, "tokenizer: the text has ", text.size(),
        " bytes, expected fewer than 2^31");
  const size_t valid = valid_utf8_prefix(text);
  check(valid == text.size(), "tokenizer: the text is not UTF-8 at byte ", valid, " of ",
        text.size());
  std::vector<int32_t> out;
  out.reserve(text.size() / 4 + 8);
  const State& state = *state_;
  const auto visit_normalized = [&](int32_t id, std::string_view part) {
    if (id >= 0)
      out.push_back(id);
    else
      state.encode_text(part, out);
  };
  state.raw_finder.find(text, parse_special, [&](int32_t id, std::string_view part) {
    if (id >= 0)
      out.push_back(id);
    else if (state.normalizes_nfc)
      state.normalized_finder.find(normalize_nfc(part), parse_special, visit_normalized);
    else
      state.normalized_finder.find(part, parse_special, visit_normalized);
  });
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool skip_special) const {
  std::string text;
  append_utf8_lossy(decode_bytes(tokens, skip_special), false, text);
  return text;
}

std::string Tokenizer::decode_bytes(std::span<const int32_t> tokens, bool skip_special) const {
  std::string bytes;
  for (int32_t id : tokens) {
    const Token& token = state_->token(id);
    if (!(skip_special && token.is_special)) bytes += token.bytes;
  }
  return bytes;
}

const TokenFrame& Tokenizer::frame() const { return state_->frame; }

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(state_->tokens.size()); }

bool Tokenizer::has_token(int32_t id) const {
  return id >= 0 && id < vocab_size() && state_->tokens[static_cast<size_t>(id)].exists;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view bytes) const {
  const int32_t id = state_->by_bytes.find(bytes);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return state_->token(id).bytes; }

bool Tokenizer::is_special(int32_t id) const { return state_->token(id).is_special; }

std::string StreamDecoder::push(int32_t id) {
  const bool is_skipped = skip_special_ && tokenizer_.is_special(id);
  if (!is_skipped) pending_ += tokenizer_.token_bytes(id);
  std::string text;
  pending_.erase(0, append_utf8_lossy(pending_, true, text));
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  append_utf8_lossy(pending_, false, text);
  pending_.clear();
  return text;
}

}  // namespace moerl::policy
