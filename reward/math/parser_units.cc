#include <algorithm>

#include "reward/math/parser.h"
#include "reward/math/vocabulary.h"

namespace moerl::reward::math {
namespace {

constexpr int kMaxWords = 8;
constexpr int kMaxUnknownWords = 3;

bool is_lower_word(std::string_view word) {
  return word.size() >= 3 &&
         std::all_of(word.begin(), word.end(), [](char c) { return 'a' <= c && c <= 'z'; });
}

/// Reads the words of a unit: "square cm", "\text{ miles per hour}", "cm^2", "\text{ daps}".
class UnitReader {
 public:
  UnitReader(const std::vector<Token>& tokens, size_t begin) : tokens_(tokens), at_(begin) {}

  /// One more token of the unit; false if it is none.
  bool step() {
    const Token& token = tokens_[at_];
    if (token.kind == TokenKind::kWord || token.is_command("min")) return word(token);
    const bool has_word = num_words_ > 0;
    if (has_word && token.is("^")) return power();
    if (has_word && (token.is(".") || token.is("/"))) {
      if (token.is("/")) name_ += '/';
      ++at_;
      return true;
    }
    return false;
  }

  bool has_words() const { return num_words_ > 0; }
  size_t at() const { return at_; }
  /// Empty for counted things.
  std::string name() const {
    if (name_ == "mi/h") return "mph";
    if (name_ == "km/h") return "kmh";
    return name_ + power_;
  }

 private:
  bool word(const Token& token) {
    const std::string_view unit = unit_name(token.text);
    const bool may_be_symbol = token.text.size() == 1 && !token.is_text;
    if (unit.empty() && static_cast<unsigned char>(token.text[0]) >= 0x80) {
      name_ += token.text;
    } else if (unit.empty() || may_be_symbol) {
      const bool is_noun = token.is_text && is_lower_word(token.text) &&
                           !is_function_word(token.text) && scale_of(token.text) == 0;
      if (!is_noun || ++num_unknown_ > kMaxUnknownWords) return false;
    } else if (unit == "square") {
      power_ = "2";
    } else if (unit == "cubic") {
      power_ = "3";
    } else if (unit == "per") {
      name_ += '/';
    } else if (unit != kCounted) {
      name_ += unit;
    }
    ++at_;
    return ++num_words_ <= kMaxWords;
  }

  bool power() {
    size_t at = at_ + 1;
    const bool is_group = tokens_[at].is("{");
    at += is_group;
    if (tokens_[at].kind != TokenKind::kNumber) return false;
    power_ = tokens_[at].text;
    ++at;
    if (is_group && !tokens_[at].is("}")) return false;
    at_ = at + is_group;
    return true;
  }

  const std::vector<Token>& tokens_;
  size_t at_;
  int num_words_ = 0;
  int num_unknown_ = 0;
  std::string name_, power_;
};

}  // namespace

std::optional<size_t> Parser::unit_end(size_t at, std::string* name) const {
  const Token& first = tokens_[std::min(at, tokens_.size() - 1)];
  if (first.kind != TokenKind::kWord && !first.is_command("min")) return std::nullopt;
  UnitReader reader(tokens_, at);
  while (!ends_element(reader.at()))
    if (!reader.step()) return std::nullopt;
  if (!reader.has_words()) return std::nullopt;
  if (name) *name = reader.name();
  return reader.at();
}

NodeId Parser::with_unit(NodeId node) {
  if (is_structure(tree_[node].kind)) return node;
  if (const long scale = scale_of(peek().text); scale != 0 && peek().kind == TokenKind::kWord) {
    ++at_;
    node = tree_.make(Kind::kProduct, {node, tree_.number(scale)});
  }
  std::string name;
  const auto end = unit_end(at_, &name);
  if (!end) return node;
  at_ = *end;
  return name.empty() ? node : tree_.make(Kind::kQuantity, {node}, name);
}

}  // namespace moerl::reward::math
