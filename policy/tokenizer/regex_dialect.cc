#include <algorithm>
#include <array>

#include "common/check.h"
#include "policy/tokenizer/newer_unicode.h"
#include "policy/tokenizer/regex.h"

namespace moerl::policy {
namespace {

// The White_Space property, which is what Oniguruma's \s means; PCRE2's \s adds U+180E.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cn", "Co", "Cs"};
constexpr std::array<std::string_view, 12> kScripts = {
    "Han",      "Hiragana", "Katakana", "Hangul",     "Latin", "Greek",
    "Cyrillic", "Arabic",   "Hebrew",   "Devanagari", "Thai",  "Bopomofo"};

template <typename List>
bool contains(const List& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }
bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw ConfigError(concat("pattern '", pattern_, "': ", what, " at byte ", at_,
                             " is not supported; rewrite it with literals, classes, \\p{…}, \\s, "
                             "\\d, groups and quantifiers"));
  }
  std::string_view rest() const { return pattern_.substr(at_); }
  bool starts(std::string_view prefix) const { return rest().starts_with(prefix); }
  void copy(size_t n) {
    out_ += pattern_.substr(at_, n);
    at_ += n;
  }

  void step() {
    switch (pattern_[at_]) {
      case '\\':
        return escape(false);
      case '[':
        return character_class();
      case '(':
        return group();
      case '{':
        return interval();
      case '^':  // Ruby anchors at every line
        ++at_;
        out_ += "(?m:^)";
        return;
      case '$':
        ++at_;
        out_ += "(?m:$)";
        return;
      default:
        return copy(1);
    }
  }

  void group() {
    if (!starts("(?")) {
      if (starts("(*")) refuse("'(*'");
      return copy(1);
    }
    for (std::string_view kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
      if (starts(kind)) return copy(kind.size());
    refuse(concat("group '", rest().substr(0, 4), "'"));
  }

  void interval() {
    const size_t close = rest().find('}');
    const std::string_view body = rest().substr(1, close == std::string_view::npos ? 0 : close - 1);
    const size_t comma = body.find(',');
    const auto is_number = [](std::string_view s) {
      return !s.empty() && std::all_of(s.begin(), s.end(), is_ascii_digit);
    };
    const bool is_interval =
        comma == std::string_view::npos
            ? is_number(body)
            : is_number(body.substr(0, comma)) &&
                  (comma + 1 == body.size() || is_number(body.substr(comma + 1)));
    if (!is_interval) refuse("'{' that is no interval");
    copy(body.size() + 2);
    // Ruby repeats the interval, PCRE2 would make it possessive.
    if (starts("+")) refuse("'+' after an interval");
  }

  void character_class() {
    copy(1);
    if (starts("^")) copy(1);
    if (starts("]")) refuse("an empty class");
    while (!starts("]")) {
      if (at_ == pattern_.size()) refuse("a class without ']'");
      if (starts("[")) refuse("a class in a class");
      if (starts("&&")) refuse("'&&' in a class");
      starts("\\") ? escape(true) : copy(1);
    }
    copy(1);
  }

  void escape(bool in_class) {
    if (at_ + 1 == pattern_.size()) refuse("'\\' at the end");
    const char c = pattern_[at_ + 1];
    if (c == 'p' || c == 'P') return property(in_class);
    if (c == 'u' || c == 'x') return code_point();
    if (c == 's' || c == 'S') {
      const std::string_view inside = c == 's' ? kSpace : kNotSpace;
      out_ += in_class ? std::string(inside) : concat('[', inside, ']');
    } else if (c == 'd' || c == 'D') {
      out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
    } else if (contains(std::string_view("rntf"), c) || (c == 'A' && !in_class) ||
               (c == 'z' && !in_class)) {
      out_ += pattern_.substr(at_, 2);
    } else if (is_ascii_letter(c) || is_ascii_digit(c) || static_cast<unsigned char>(c) >= 0x80) {
      refuse(concat("'\\", c, "'"));
    } else {
      out_ += pattern_.substr(at_, 2);
    }
    at_ += 2;
  }

  static bool contains(std::string_view set, char c) {
    return set.find(c) != std::string_view::npos;
  }

  void property(bool in_class) {
    const size_t close = rest().find('}');
    if (pattern_.substr(at_ + 2, 1) != "{" || close == std::string_view::npos)
      refuse(concat("'", rest().substr(0, 2), "' without '{name}'"));
    std::string_view name = rest().substr(3, close - 3);
    bool is_negated = pattern_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    // A bare script name means script extensions to PCRE2 and the script to Oniguruma.
    const bool is_script = policy::contains(kScripts, name);
    if (!is_script && !policy::contains(kCategories, name)) refuse(concat("property '", name, "'"));
    const std::string newer = newer_code_points(name);
    const std::string spelled = concat(is_script ? "sc:" : "", name, "}");
    if (in_class && is_negated)  // a class cannot leave the newer ones out again
      out_ += "\\P{" + spelled;
    else if (in_class || (newer.empty() && !is_negated))
      out_ += "\\p{" + spelled + newer;
    else
      out_ += concat(is_negated ? "[^" : "[", "\\p{", spelled, newer, "]");
    at_ += close + 1;
  }

  void code_point() {
    const bool is_braced = pattern_.substr(at_ + 2, 1) == "{";
    const size_t begin = at_ + (is_braced ? 3 : 2);
    size_t end = begin;
    const size_t most = is_braced ? 8 : (pattern_[at_ + 1] == 'u' ? 4 : 2);
    while (end < pattern_.size() && end - begin < most &&
           (is_ascii_digit(pattern_[end]) ||
            contains(std::string_view("abcdefABCDEF"), pattern_[end])))
      ++end;
    const bool is_complete =
        is_braced ? pattern_.substr(end, 1) == "}" && end > begin : end - begin == most;
    if (!is_complete) refuse(concat("'", rest().substr(0, 2), "' without its hex digits"));
    out_ += concat("\\x{", pattern_.substr(begin, end - begin), "}");
    at_ = end + (is_braced ? 1 : 0);
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace moerl::policy
