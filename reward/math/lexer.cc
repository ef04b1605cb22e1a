#include "reward/math/lexer.h"

#include "common/check.h"
#include "reward/ascii.h"
#include "reward/math/limits.h"
#include "reward/math/vocabulary.h"

namespace moerl::reward::math {
namespace {

size_t character_size(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  return std::min<size_t>(first >= 0xF0   ? 4
                          : first >= 0xE0 ? 3
                          : first >= 0xC0 ? 2
                                          : 1,
                          text.size());
}

/// Replaces the characters whose meaning is other text, so that the lexer sees digits as digits.
std::string expand_characters(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t size = character_size(text);
    const std::string_view character = text.substr(0, size);
    const auto meaning = size > 1 ? character_meaning(character) : CharacterMeaning{};
    out += meaning.action == CharacterMeaning::Action::kText ? meaning.text : character;
    text.remove_prefix(size);
  }
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view text, const LexerOptions& options) : text_(text), options_(options) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) step();
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return text_.substr(at_); }
  char peek(size_t offset = 0) const {
    return at_ + offset < text_.size() ? text_[at_ + offset] : '\0';
  }
  bool take(std::string_view expected) {
    if (!rest().starts_with(expected)) return false;
    at_ += expected.size();
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  void push(TokenKind kind, std::string_view token) {
    if (tokens_.size() >= kMaxTokens) throw LimitError("the answer has too many tokens");
    tokens_.push_back({kind, std::string(token), has_space_, is_text()});
    has_space_ = false;
  }
  /// True inside of \text{...}.
  bool is_text() const { return !groups_.empty() && groups_.back(); }

  void step() {
    const char c = peek();
    if (is_space(c)) {
      ++at_;
      has_space_ = true;
    } else if (c == '$' || c == '\0') {
      // A delimiter of mathematics, or a currency sign.
      ++at_;
      has_space_ = true;
    } else if (is_digit(c) || (c == '.' && is_digit(peek(1)))) {
      number();
    } else if (is_letter(c)) {
      word();
    } else if (c == '\\') {
      ++at_;
      command();
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      character();
    } else {
      symbol();
    }
  }

  void open_group(bool as_text, bool is_transparent) {
    if (groups_.size() >= static_cast<size_t>(kMaxDepth))
      throw LimitError("the answer is nested too deeply");
    groups_.push_back(as_text);
    transparent_.push_back(is_transparent);
  }

  void symbol() {
    for (const auto& [spelling, meaning] :
         {std::pair<std::string_view, std::string_view>{"<=", "<="},
          {">=", ">="},
          {"=<", "<="},
          {"=>", ">="},
          {"!=", "!="},
          {"<>", "!="},
          {"+/-", "+-"},
          {"==", "="},
          {"**", "^"},
          {"...", ""}}) {
      if (!rest().starts_with(spelling)) continue;
      // **5** is markdown, 2**5 is a power.
      if (spelling == "**" && !is_power()) continue;
      at_ += spelling.size();
      if (spelling == "...") return push(TokenKind::kCommand, "ldots");
      return push(TokenKind::kSymbol, meaning);
    }
    const char c = text_[at_++];
    const std::string_view one = text_.substr(at_ - 1, 1);
    if (c == '*' && (peek() == '*' || is_emphasis_)) {
      // Emphasis of markdown: the next stars close it.
      while (peek() == '*') ++at_;
      is_emphasis_ = !is_emphasis_;
      has_space_ = true;
      return;
    }
    if (c == '{') {
      open_group(is_text(), false);
    } else if (c == '}') {
      const bool is_transparent = !groups_.empty() && transparent_.back();
      if (!groups_.empty()) {
        groups_.pop_back();
        transparent_.pop_back();
      }
      if (is_transparent) return;
    }
    if (c == '(' || c == '[') ++num_open_;
    if (c == ')' || c == ']') num_open_ = std::max(num_open_ - 1, 0);
    if (c == '~') {
      has_space_ = true;
      return;
    }
    if (c == '"' || c == '`' || c == '#' || c == '?' || c == '@' || c < ' ') return;
    push(TokenKind::kSymbol, one);
  }

  /// "**" between operands.
  bool is_power() const {
    if (tokens_.empty() || is_emphasis_) return false;
    const Token& before = tokens_.back();
    const char after = peek(2);
    const bool is_operand = before.kind == TokenKind::kNumber || before.kind == TokenKind::kWord ||
                            before.is(")") || before.is("}");
    return is_operand && (is_digit(after) || is_letter(after) || after == '(' || after == '-' ||
                          after == ' ' || after == '{');
  }

  void character() {
    const size_t size = character_size(rest());
    const auto meaning = character_meaning(rest().substr(0, size));
    using Action = CharacterMeaning::Action;
    if (meaning.action == Action::kLetter) {
      // Words of other scripts.
      const size_t begin = at_;
      while (static_cast<unsigned char>(peek()) >= 0x80 &&
             character_meaning(rest().substr(0, character_size(rest()))).action == Action::kLetter)
        at_ += character_size(rest());
      const std::string_view run = text_.substr(begin, at_ - begin);
      if (const std::string_view joint = word_meaning(run); !joint.empty())
        return push(TokenKind::kCommand, joint);
      push(TokenKind::kWord, run);
      tokens_.back().is_text = true;
      return;
    }
    at_ += size;
    if (meaning.action == Action::kSpace) has_space_ = true;
    if (meaning.action == Action::kToken) push(meaning.kind, meaning.text);
  }

  void word() {
    const size_t begin = at_;
    while (is_letter(peek())) ++at_;
    std::string_view run = text_.substr(begin, at_ - begin);
    // a.m. and p.m.
    if ((run == "a" || run == "p" || run == "A" || run == "P") &&
        (rest().starts_with(".m") || rest().starts_with(".M"))) {
      at_ += 2;
      take(".");
      return push(TokenKind::kWord, run == "a" || run == "A" ? "am" : "pm");
    }
    if (const std::string_view meaning = word_meaning(run); !meaning.empty())
      return push(TokenKind::kCommand, meaning);
    // A function that runs into its argument: sinx, sqrtx.
    if (!is_text() && run.size() > 3 && run.size() <= 6 && unit_name(run).empty())
      for (const std::string_view name : {"sqrt", "sin", "cos", "tan", "log"})
        if (run.starts_with(name) && run.size() == name.size() + 1) {
          push(TokenKind::kCommand, name);
          return push(TokenKind::kWord, run.substr(name.size()));
        }
    push(TokenKind::kWord, run);
  }

  void command() {
    if (at_ >= text_.size()) return;
    if (++num_commands_ > kMaxCommands) throw LimitError("the answer has too many commands");
    // \\frac is \frac escaped twice; in an environment it may begin a row.
    if (peek() == '\\' && num_environments_ == 0 && is_known_command(letters_at(at_ + 1))) ++at_;
    const size_t end = at_ + std::max<size_t>(letters_at(at_).size(), 1);
    std::string_view name = text_.substr(at_, end - at_);
    if (is_space(name[0])) {
      at_ = end;
      has_space_ = true;
      return;
    }
    if (static_cast<unsigned char>(name[0]) >= 0x80) return;
    at_ = end;
    if (name == "operatorname") take("*");
    if (name == "begin" || name == "end") return environment(name == "begin");
    if (name == "not" && take("=")) return push(TokenKind::kSymbol, "!=");
    if (name == "not" && take("\\in")) return push(TokenKind::kCommand, "notin");
    if (name == "sqrt" && digits_at(at_) > 1) return root_of_digit();
    if (name == "mathbb" || name == "Bbb") return number_set();
    if ((name == "left" || name == "right") && take(".")) return;
    // \quadx is \quad x: authors forget the space.
    if (name.size() > 4 && name.starts_with("quad") && name != "quad") {
      at_ -= name.size() - 4;
      name = "quad";
    }
    apply(name, command_meaning(name));
  }

  std::string_view letters_at(size_t at) const {
    size_t end = at;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    return text_.substr(std::min(at, text_.size()), end - at);
  }

  /// \sqrt23 is \sqrt{2} times 3.
  void root_of_digit() {
    push(TokenKind::kCommand, "sqrt");
    count_digits(1);
    push(TokenKind::kNumber, text_.substr(at_++, 1));
  }

  void apply(std::string_view name, const CommandMeaning& meaning) {
    using Action = CommandMeaning::Action;
    switch (meaning.action) {
      case Action::kIgnore:
        break;
      case Action::kSpace:
        has_space_ = true;
        break;
      case Action::kSkipGroup:
        skip_group();
        break;
      case Action::kText:
      case Action::kOpenGroup:
        skip_space();
        if (take("{")) open_group(meaning.action == Action::kText || is_text(), true);
        has_space_ = has_space_ || (name != "mathrm" && meaning.action == Action::kText);
        break;
      case Action::kToken:
        push(meaning.kind, meaning.text);
        if (meaning.text == "\\{") ++num_open_;
        if (meaning.text == "\\}") num_open_ = std::max(num_open_ - 1, 0);
        break;
    }
  }

  /// The group that follows, if one does.
  std::string_view group() {
    skip_space();
    if (peek() != '{') return {};
    const size_t end = text_.find('}', at_);
    if (end == std::string_view::npos) return {};
    const std::string_view content = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return content;
  }

  void skip_group() {
    if (peek() == '{') group();
  }

  void environment(bool is_begin) {
    const std::string_view name = group();
    if (name.empty()) throw ParseError("\\begin or \\end without a name");
    if (is_begin && (name == "array" || name == "tabular")) group();
    push(is_begin ? TokenKind::kBegin : TokenKind::kEnvironmentEnd, name);
    num_open_ += is_begin ? 1 : -1;
    num_open_ = std::max(num_open_, 0);
    num_environments_ += is_begin;
  }

  void number_set() {
    const std::string_view name = peek() == '{' ? group() : text_.substr(at_, at_ < text_.size());
    if (name.size() == 1 && text_[at_ - 1] != '}') ++at_;
    push(TokenKind::kCommand, concat("mathbb:", name));
  }

  // --- numbers ---

  size_t digits_at(size_t at) const {
    size_t end = at;
    while (end < text_.size() && is_digit(text_[end])) ++end;
    return end - at;
  }

  /// Bytes of a thousands separator at `at`, 0 if there is none.
  size_t separator_at(size_t at) const {
    for (const std::string_view separator : {"{,}\\!", "{,}", ",\\!", "\\!,\\!", "\\!,", "\\,",
                                             "\\ ", ",", " ", "\u00A0", "\u2009", "\u202F", "'"})
      if (text_.substr(at).starts_with(separator)) return separator.size();
    return 0;
  }

  /// A group of three digits after a separator; 0 or the bytes of both.
  size_t thousands_group_at(size_t at, std::string_view first_separator) const {
    const size_t separator = separator_at(at);
    if (separator == 0 || digits_at(at + separator) != 3) return 0;
    const std::string_view text = text_.substr(at, separator);
    if (!first_separator.empty() && text != first_separator) return 0;
    if (text == "," && num_open_ > 0 && text_.substr(at + 1, 3) != "000" && first_separator.empty())
      return 0;
    return separator + 3;
  }

  void count_digits(size_t run) {
    num_digits_ += run;
    if (run > kMaxDigitRun) throw LimitError("a number has too many digits");
    if (num_digits_ > kMaxTotalDigits) throw LimitError("the answer has too many digits");
  }

  void number() {
    const size_t begin = at_;
    const size_t first = digits_at(at_);
    count_digits(first);
    std::string value(text_.substr(at_, first));
    at_ += first;
    std::string_view separator;
    const bool may_group = 1 <= first && first <= 3 && text_[begin] != '0';
    while (may_group) {
      const size_t size = thousands_group_at(at_, separator);
      if (size == 0) break;
      separator = text_.substr(at_, size - 3);
      count_digits(3);
      value += text_.substr(at_ + size - 3, 3);
      at_ += size;
    }
    fraction(value, first);
    exponent(value);
    push(TokenKind::kNumber, value);
  }

  void fraction(std::string& value, size_t num_integer_digits) {
    const bool has_comma = options_.decimal_comma && peek() == ',' && is_digit(peek(1));
    if (peek() != '.' && !has_comma) return;
    if (!is_digit(peek(1)) && num_integer_digits == 0) return;
    // "5." ends a sentence or is 5; the point is kept only where 0.\overline{3} follows.
    if (!is_digit(peek(1))) {
      if (rest().starts_with(".\\overline") || rest().starts_with(".\\dot") ||
          rest().starts_with(".\\bar")) {
        value += '.';
        ++at_;
      } else if (peek(1) != '.') {
        ++at_;
      }
      return;
    }
    const size_t digits = digits_at(at_ + 1);
    count_digits(digits);
    value += '.';
    value += text_.substr(at_ + 1, digits);
    at_ += 1 + digits;
  }

  /// e or E, a sign, up to four digits.
  void exponent(std::string& value) {
    if (peek() != 'e' && peek() != 'E') return;
    const size_t sign = peek(1) == '+' || peek(1) == '-';
    const size_t digits = digits_at(at_ + 1 + sign);
    if (digits == 0 || digits > 4) return;
    value += 'e';
    value += text_.substr(at_ + 1, sign + digits);
    at_ += 1 + sign + digits;
  }

  std::string_view text_;
  LexerOptions options_;
  size_t at_ = 0;
  std::vector<Token> tokens_;
  std::vector<bool> groups_;       // of open braces: is the content text?
  std::vector<bool> transparent_;  // of open braces: are they no tokens?
  int num_open_ = 0;               // brackets that make commas separate elements
  int num_environments_ = 0;       // begun so far
  bool has_space_ = false;
  bool is_emphasis_ = false;
  size_t num_commands_ = 0;
  size_t num_digits_ = 0;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text, const LexerOptions& options) {
  if (text.size() > kMaxAnswerBytes) throw LimitError("the answer is too long");
  const std::string expanded = expand_characters(text);
  return Lexer(expanded, options).run();
}

}  // namespace moerl::reward::math
