#include "policy/tokenizer/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

#include "common/check.h"

namespace moerl::policy {
namespace {

UChar32 code_point_at(std::string_view text, size_t at) {
  UChar32 c = 0;
  U8_GET(reinterpret_cast<const uint8_t*>(text.data()), 0, at, text.size(), c);
  return c;
}

size_t previous_boundary(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (text[at] & 0xC0) == 0x80);
  return at;
}

size_t next_boundary(std::string_view text, size_t at) {
  do ++at;
  while (at < text.size() && (text[at] & 0xC0) == 0x80);
  return at;
}

// \w of Unicode TS 18, annex C.
bool is_word(UChar32 c) {
  constexpr uint32_t kWordTypes = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || (U_MASK(u_charType(c)) & kWordTypes) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word(code_point_at(text, previous_boundary(text, begin)))) ||
         (end < text.size() && is_word(code_point_at(text, end)));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  nodes_.emplace_back();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    check(!content.empty(), "added token ", tokens_[i].id, " has no content");
    is_first_byte_[static_cast<uint8_t>(content[0])] = true;
    int32_t node = 0;
    for (char byte : content) {
      const auto fresh = static_cast<int32_t>(nodes_.size());
      const auto [child, is_new] = nodes_[static_cast<size_t>(node)].children.emplace(byte, fresh);
      node = child->second;
      if (is_new) nodes_.emplace_back();
    }
    int32_t& token = nodes_[static_cast<size_t>(node)].token;
    if (token < 0) token = static_cast<int32_t>(i);
  }
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text, size_t at) const {
  const AddedToken* longest = nullptr;
  const Node* node = &nodes_[0];
  for (; at < text.size(); ++at) {
    const auto child = node->children.find(text[at]);
    if (child == node->children.end()) break;
    node = &nodes_[static_cast<size_t>(child->second)];
    if (node->token >= 0) longest = &tokens_[static_cast<size_t>(node->token)];
  }
  return longest;
}

void AddedTokenFinder::find(std::string_view text, bool parse_special, const Visit& visit) const {
  size_t covered = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token =
        is_first_byte_[static_cast<uint8_t>(text[at])] ? longest_at(text, at) : nullptr;
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    // A match that is turned down still uses up its text, as in the reference.
    if ((token->special && !parse_special) ||
        (token->single_word && touches_word(text, begin, end)))
      continue;
    while (token->lstrip && begin > covered) {
      const size_t before = previous_boundary(text, begin);
      if (!u_isUWhiteSpace(code_point_at(text, before))) break;
      begin = before;
    }
    while (token->rstrip && end < text.size() && u_isUWhiteSpace(code_point_at(text, end)))
      end = next_boundary(text, end);
    // Text that the token before has taken as its trailing spaces.
    if (token->lstrip) begin = std::max(begin, covered);
    if (begin >= end) continue;
    if (covered < begin) visit(-1, text.substr(covered, begin - covered));
    visit(token->id, text.substr(begin, end - begin));
    covered = end;
  }
  if (covered < text.size()) visit(-1, text.substr(covered));
}

}  // namespace moerl::policy
