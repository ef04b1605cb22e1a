#include "reward/extraction/boxes.h"

#include <algorithm>

#include "reward/ascii.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

/// The longest text between boxes that still join them.
constexpr size_t kMaxJoin = 80;

/// For each byte that is an unescaped '{', where its partner is; npos if it has none.
std::vector<size_t> match_braces(std::string_view text) {
  std::vector<size_t> partner(text.size(), std::string_view::npos), open;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      open.push_back(i);
    } else if (text[i] == '}' && !open.empty()) {
      partner[open.back()] = i;
      open.pop_back();
    }
  }
  return partner;
}

/// Bytes of "\boxed" or "\fbox" at the front, 0 if it is neither.
size_t command_size(std::string_view text) {
  for (const std::string_view command : {"\\boxed", "\\fbox"})
    if (text.starts_with(command) &&
        (text.size() == command.size() || !is_letter(text[command.size()])))
      return command.size();
  return 0;
}

/// The text between two boxes without LaTeX's spacing, text commands and dollar signs, in lower
/// case.
std::string plain_words(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      size_t end = i + 1;
      while (end < text.size() && is_letter(text[end])) ++end;
      if (end == i + 1) ++end;  // \, and the like
      i = end - 1;
      out += ' ';
    } else if (std::string_view("{}$[]()*").find(text[i]) != std::string_view::npos) {
      out += ' ';
    } else {
      out += to_lower(text[i]);
    }
  }
  return std::string(strip(out));
}

/// Without a name at the end: "or x =".
std::string without_name(std::string words) {
  if (!words.ends_with('=')) return words;
  words = strip(std::string_view(words).substr(0, words.size() - 1));
  if (words.size() > 1 && is_letter(words.back()) && !is_letter(words[words.size() - 2]))
    words.pop_back();
  return std::string(strip(words));
}

bool joins(std::string_view between) {
  if (between.size() > kMaxJoin) return false;
  const std::string words = without_name(plain_words(between));
  if (words.find('.') != std::string::npos || words.find("\n\n") != std::string::npos) return false;
  if (words == "," || words == ";" || words == "and" || words == "or" || words.ends_with(", and"))
    return true;
  auto ends_with_word = [&](std::string_view word) {
    return words.ends_with(word) && words.size() > word.size() &&
           !is_letter(words[words.size() - word.size() - 1]);
  };
  return ends_with_word("and") || ends_with_word("or") || words.ends_with(",");
}

}  // namespace

std::vector<Box> find_boxes(std::string_view text) {
  std::vector<Box> boxes;
  if (text.find("\\boxed") == std::string_view::npos &&
      text.find("\\fbox") == std::string_view::npos)
    return boxes;
  const std::vector<size_t> partner = match_braces(text);
  for (size_t at = text.find('\\'); at != std::string_view::npos; at = text.find('\\', at)) {
    const size_t size = command_size(text.substr(at));
    if (size == 0) {
      ++at;
      continue;
    }
    size_t begin = at + size;
    while (begin < text.size() && is_space(text[begin])) ++begin;
    if (begin < text.size() && text[begin] == '{') {
      const size_t end = partner[begin];
      if (end == std::string_view::npos) {
        at = begin + 1;
        continue;
      }
      boxes.push_back({strip(text.substr(begin + 1, end - begin - 1)), at, end + 1});
      at = end + 1;
    } else {
      const size_t end = std::min(text.find_first_of("$\n", begin), text.size());
      const std::string_view content = strip(text.substr(begin, end - begin));
      if (!content.empty()) boxes.push_back({content, at, end});
      at = std::max(end, at + 1);
    }
  }
  return boxes;
}

std::optional<std::string> joined_boxes(std::string_view text, const std::vector<Box>& boxes) {
  if (boxes.size() < 2) return std::nullopt;
  size_t first = boxes.size() - 1;
  while (first > 0 &&
         joins(text.substr(boxes[first - 1].end, boxes[first].begin - boxes[first - 1].end)))
    --first;
  if (first == boxes.size() - 1) return std::nullopt;
  std::string joined;
  for (size_t i = first; i < boxes.size(); ++i)
    joined.append(i > first ? ", " : "").append(boxes[i].content);
  return joined;
}

}  // namespace moerl::reward
