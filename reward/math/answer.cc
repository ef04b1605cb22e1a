#include "reward/math/answer.h"

#include <algorithm>

#include "reward/ascii.h"
#include "reward/math/parser.h"
#include "reward/math/vocabulary.h"

namespace moerl::reward::math {
namespace {

bool is_upper_letter(const Token& token) {
  return token.kind == TokenKind::kWord && token.text.size() == 1 && 'A' <= token.text[0] &&
         token.text[0] <= 'Z';
}

bool is_word(const Token& token) { return token.kind == TokenKind::kWord && token.text.size() > 1; }

std::string folded(const std::vector<Token>& tokens) {
  std::string text = normal_form(tokens);
  for (char& c : text) c = to_lower(c);
  while (!text.empty() && std::string_view(".,;:! ").find(text.back()) != std::string_view::npos)
    text.pop_back();
  return text;
}

/// Where the text of a choice begins, after "(D)", "D)", "D.", "D:", or after "D" where words of
/// another script follow; 0 if it is no choice.
size_t choice_text_begin(const std::vector<Token>& tokens) {
  const bool is_other_script = tokens.size() > 2 && is_upper_letter(tokens[0]) &&
                               tokens[1].kind == TokenKind::kWord &&
                               static_cast<unsigned char>(tokens[1].text[0]) >= 0x80;
  if (is_other_script) return 1;
  const bool has_open = tokens[0].is("(");
  const size_t letter = has_open ? 1 : 0;
  if (tokens.size() < letter + 4 || !is_upper_letter(tokens[letter])) return 0;
  const Token& mark = tokens[letter + 1];
  const bool is_mark =
      mark.is(")") ||
      (!has_open && (mark.is(".") || (mark.is(":") && tokens[letter + 2].has_space)));
  const Token& next = tokens[letter + 2];
  if (!is_mark || !next.has_space || next.kind == TokenKind::kEnd) return 0;
  // "(A) or (B)", "(A) (B)" have not chosen.
  if (next.is_command("and") || next.is_command("or")) return 0;
  const size_t other = letter + (next.is("(") ? 3 : 2);
  if (is_upper_letter(tokens[other]) && tokens[other].text != tokens[letter].text &&
      (tokens[other + 1].kind == TokenKind::kEnd || tokens[other + 1].is(")")))
    return 0;
  if (next.kind == TokenKind::kSymbol && !next.is("(") && !next.is("\\{") && !next.is("-"))
    return 0;
  return letter + 2;
}

NodeId parse_choice(const std::vector<Token>& tokens, size_t begin, Tree& tree) {
  const std::string letter = tokens[tokens[0].is("(") ? 1 : 0].text;
  const std::vector<Token> rest(tokens.begin() + static_cast<long>(begin), tokens.end());
  return tree.make(Kind::kChoice, {tree.make(Kind::kText, {}, folded(rest))}, letter);
}

/// "Area = 5", "\text{the answer} = 5": words before the first equals sign name what is asked for.
void drop_name(std::vector<Token>& tokens) {
  size_t end = 0;
  bool has_word = false;
  while (tokens[end].kind == TokenKind::kWord) has_word |= is_word(tokens[end++]);
  if (!has_word || !tokens[end].is("=")) return;
  if (end == 1 && !tokens[0].is_text && tokens[0].text.size() < 4) return;
  if (tokens[end + 1].kind != TokenKind::kEnd)
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<long>(end) + 1);
}

/// "four" is 4.
std::optional<long> number_word(const std::string& word) {
  static constexpr std::string_view kWords[] = {"zero", "one",    "two",   "three", "four",
                                                "five", "six",    "seven", "eight", "nine",
                                                "ten",  "eleven", "twelve"};
  const auto* it = std::find(std::begin(kWords), std::end(kWords), word);
  if (it == std::end(kWords)) return std::nullopt;
  return it - std::begin(kWords);
}

/// The elements of "\text{Softball, Kickball, Picnic}": words without anything else.
NodeId parse_text(const std::vector<Token>& tokens, Tree& tree) {
  std::vector<std::vector<Token>> parts(1);
  bool is_list = true;
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kEnd) break;
    if (token.is(",") || token.is(";") || token.is_command("and")) {
      if (!parts.back().empty()) parts.emplace_back();
      continue;
    }
    is_list = is_list && token.kind == TokenKind::kWord;
    parts.back().push_back(token);
  }
  if (parts.back().empty()) parts.pop_back();
  if (!is_list || parts.size() < 2 || parts.size() > kMaxElements) {
    const std::string text = folded(tokens);
    if (const auto number = number_word(text)) return tree.number(*number);
    if (text == "all real numbers" || text == "all reals" || text == "real numbers")
      return tree.make(Kind::kNumberSet, {}, "R");
    if (text == "no solution" || text == "no solutions" || text == "empty set")
      return tree.make(Kind::kSet, {});
    return tree.make(Kind::kText, {}, text);
  }
  std::vector<NodeId> kids;
  for (const auto& part : parts) {
    const bool is_symbol = part.size() == 1 && part[0].text.size() == 1;
    kids.push_back(is_symbol ? tree.make(Kind::kSymbol, {}, part[0].text)
                             : tree.make(Kind::kText, {}, folded(part)));
  }
  return tree.make(Kind::kList, std::move(kids));
}

}  // namespace

Answer parse_answer(std::string_view text, const LexerOptions& options, Tree& tree) {
  tree.begin_answer();
  std::vector<Token> tokens = tokenize(text, options);
  Answer answer;
  answer.normal = normal_form(tokens);
  answer.num_words = static_cast<size_t>(std::count_if(tokens.begin(), tokens.end(), is_word));
  answer.is_plain_prose =
      text.find('$') == std::string_view::npos && text.find('\\') == std::string_view::npos &&
      std::all_of(tokens.begin(), tokens.end(), [](const Token& token) {
        return token.kind == TokenKind::kWord || token.kind == TokenKind::kEnd || token.is(".") ||
               token.is(",") || token.is("'");
      });
  if (const size_t begin = choice_text_begin(tokens)) {
    answer.root = parse_choice(tokens, begin, tree);
    answer.is_plain_prose = false;
    return answer;
  }
  drop_name(tokens);
  try {
    answer.root = Parser(tokens, tree).parse();
    answer.is_plain_prose = false;
  } catch (const ParseError&) {
    if (answer.num_words == 0) throw;
    answer.root = parse_text(tokens, tree);
  }
  return answer;
}

}  // namespace moerl::reward::math
