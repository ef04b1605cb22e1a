#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/tokenizer/regex.h"

namespace moerl::policy {

/// What becomes of the delimiters (the matches of the pattern) of a split.
enum class SplitBehavior {
  kIsolated,
  kRemoved,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

/// One `Split` (or `Digits`) entry of a tokenizer file.
struct SplitConfig {
  std::string pattern;
  Regex::Syntax syntax = Regex::Syntax::kOniguruma;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  /// The gaps between the matches are the delimiters.
  bool invert = false;
};

/// The pre-tokenizer of a byte-level BPE: splits, then one ByteLevel at the end.
struct PreTokenizerConfig {
  std::vector<SplitConfig> splits;
  /// ByteLevel puts a space before every piece that does not begin with one.
  bool add_prefix_space = false;
  /// ByteLevel splits by kGpt2Pattern.
  bool use_regex = true;
};

/// The pattern that ByteLevel splits by. Source: Radford et al. 2019 (GPT-2), encoder.py.
extern const std::string_view kGpt2Pattern;

/// Cuts text into the pieces that byte pairs are merged in, as Hugging Face `tokenizers` does: each
/// split is applied to every piece of the one before. Immutable and thread safe.
class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view piece)>;

  /// @throws ConfigError if a pattern is not understood.
  explicit PreTokenizer(const PreTokenizerConfig& config);
  /// Hands the pieces to `sink` in order; a piece lives until the sink returns.
  /// @param text  valid UTF-8.
  void split(std::string_view text, const Sink& sink) const;

 private:
  struct Split {
    Regex regex;
    SplitBehavior behavior;
    bool invert;
  };
  void apply(size_t index, std::string_view text, const Sink& sink) const;
  void byte_level(std::string_view text, const Sink& sink) const;

  std::vector<Split> splits_;
  std::vector<Split> byte_level_split_;  // empty or the one of use_regex
  bool add_prefix_space_;
};

}  // namespace moerl::policy
