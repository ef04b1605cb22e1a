#include "policy/tokenizer_builder.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/json.h"
#include "policy/tokenizer.h"
#include "policy/tokenizer/byte_alphabet.h"
#include "policy/tokenizer/pre_tokenizer.h"
#include "policy/tokenizer/utf8.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::ordered_json;
using Symbols = std::vector<std::string>;

/// The merges so far and the order in which their results came.
class MergeList {
 public:
  /// Adds the merges that make one symbol of the bytes.
  void build(std::string_view bytes) {
    Symbols symbols = apply(bytes);
    while (symbols.size() > 1) {
      ranks_.emplace(std::pair(symbols[0], symbols[1]), static_cast<int>(merges_.size()));
      merges_.emplace_back(symbols[0], symbols[1]);
      if (known_.insert(symbols[0] + symbols[1]).second)
        results_.push_back(symbols[0] + symbols[1]);
      symbols = apply(bytes);
    }
  }
  /// Left and right bytes in rank order.
  const std::vector<std::pair<std::string, std::string>>& merges() const { return merges_; }
  const std::vector<std::string>& results() const { return results_; }

 private:
  Symbols apply(std::string_view bytes) const {
    Symbols symbols;
    for (char byte : bytes) symbols.emplace_back(1, byte);
    while (true) {
      int best_rank = std::numeric_limits<int>::max();
      size_t best = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto rank = ranks_.find({symbols[i], symbols[i + 1]});
        if (rank == ranks_.end() || rank->second >= best_rank) continue;
        best_rank = rank->second;
        best = i;
      }
      if (best_rank == std::numeric_limits<int>::max()) return symbols;
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }

  std::map<std::pair<std::string, std::string>, int> ranks_;
  std::vector<std::pair<std::string, std::string>> merges_;
  std::vector<std::string> results_;
  std::set<std::string> known_;
};

std::vector<std::string> by_length(const std::vector<std::string>& tokens) {
  std::vector<std::string> sorted = tokens;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
  return sorted;
}

void check_tokens(const TokenizerSpec& spec) {
  std::set<std::string> added;
  for (const auto* list : {&spec.tokens, &spec.special_tokens, &spec.added_tokens}) {
    for (const std::string& token : *list) {
      check(!token.empty(), "tokenizer builder: a token is empty");
      check(valid_utf8_prefix(token) == token.size(), "tokenizer builder: the token of ",
            token.size(), " bytes is not UTF-8");
      check(list == &spec.tokens || added.insert(token).second, "tokenizer builder: '", token,
            "' is an added token twice");
    }
  }
}

void check_pieces(const TokenizerSpec& spec) {
  PreTokenizerConfig config;
  config.splits.push_back(
      {spec.split_regex, Regex::Syntax::kOniguruma, SplitBehavior::kIsolated, false});
  config.use_regex = false;
  const PreTokenizer pre_tokenizer(config);
  for (const std::string& token : spec.tokens) {
    std::string pieces;
    pre_tokenizer.split(token, [&](std::string_view piece) {
      pieces += concat(pieces.empty() ? "'" : ", '", piece, "'");
    });
    check(pieces == concat("'", token, "'"), "tokenizer builder: split_regex '", spec.split_regex,
          "' cuts '", token, "' into ", pieces, ", expected one piece");
  }
}

Json added_token(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

/// Symbols of one byte each, in code-point order.
std::vector<std::string> sorted_byte_symbols() {
  std::vector<std::string> symbols;
  for (int byte = 0; byte < 256; ++byte) symbols.push_back(byte_symbol(static_cast<uint8_t>(byte)));
  std::sort(symbols.begin(), symbols.end());
  return symbols;
}

Json write_json(const TokenizerSpec& spec, const MergeList& list) {
  Json added = Json::array(), vocab = Json::object(), merges = Json::array();
  int64_t next_id = 0;
  for (const std::string& token : spec.special_tokens) {
    vocab[token] = next_id;
    added.push_back(added_token(next_id++, token, true));
  }
  for (const std::string& symbol : sorted_byte_symbols()) {
    check(!vocab.contains(symbol), "tokenizer builder: special token '", symbol,
          "' is also the spelling of a byte");
    vocab[symbol] = next_id++;
  }
  for (const std::string& bytes : list.results()) {
    const std::string symbols = bytes_to_symbols(bytes);
    check(!vocab.contains(symbols), "tokenizer builder: special token '", symbols,
          "' is also a token or the beginning of one");
    vocab[symbols] = next_id++;
  }
  for (const std::string& token : spec.added_tokens) {
    const bool is_known = vocab.contains(token);
    added.push_back(added_token(is_known ? vocab[token].get<int64_t>() : next_id++, token, false));
  }
  for (const auto& [left, right] : list.merges())
    merges.push_back({bytes_to_symbols(left), bytes_to_symbols(right)});

  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", spec.split_regex}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  Json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = std::move(added);
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", Json::array({split, byte_level})}};
  root["post_processor"] = nullptr;
  root["decoder"] = byte_level;
  root["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", std::move(vocab)},
                   {"merges", std::move(merges)}};
  return root;
}

}  // namespace

std::string build_tokenizer_json(const TokenizerSpec& spec) {
  check_tokens(spec);
  check_pieces(spec);
  MergeList list;
  for (const std::string& token : by_length(spec.tokens)) list.build(token);
  std::string text = write_json(spec, list).dump(1, ' ') + "\n";

  const Tokenizer tokenizer = Tokenizer::from_json(text, "tokenizer builder");
  for (const std::string& token : spec.tokens) {
    const size_t count = tokenizer.encode(token).size();
    check(count == 1, "tokenizer builder: '", token, "' becomes ", count,
          " tokens, expected one; does it hold an added token?");
  }
  return text;
}

}  // namespace moerl::policy
