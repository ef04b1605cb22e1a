#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace moerl::policy {

/// Rewrites a pattern of the Oniguruma dialect (Ruby syntax), in which tokenizer files are written,
/// to PCRE2 with the same matches. Where the dialects part (\s, scripts, a quantified interval) the
/// pattern is rewritten; what has no safe counterpart is refused.
/// @throws ConfigError naming the construct and the pattern.
std::string oniguruma_to_pcre2(std::string_view pattern);

/// A compiled pattern over valid UTF-8, with Unicode properties. Immutable and thread safe.
class Regex {
 public:
  enum class Syntax { kOniguruma, kLiteral };
  /// @throws ConfigError if the pattern is not understood.
  Regex(std::string_view pattern, Syntax syntax);
  ~Regex();
  Regex(Regex&&) noexcept;

  struct Match {
    size_t begin, end;
  };
  /// The leftmost match that begins at or after `start`; false if there is none.
  /// @param text  valid UTF-8, which is not checked again.
  bool find(std::string_view text, size_t start, Match& match) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace moerl::policy
