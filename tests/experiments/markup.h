#pragma once
#include <string>
#include <vector>

namespace moerl::testing {

/// What is wrong with a piece of XML, or "": tags that do not close each other, attributes that are
/// not quoted, bare & or <.
inline std::string xml_error(const std::string& text) {
  std::vector<std::string> open;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '&') {
      const size_t end = text.find(';', i);
      if (end == std::string::npos || end - i > 6) return "bare & at " + text.substr(i, 30);
      i = end + 1;
      continue;
    }
    if (text[i] == '>') return "bare > at " + text.substr(i, 30);
    if (text[i] != '<') {
      ++i;
      continue;
    }
    size_t end = i + 1;
    char quote = 0;
    for (; end < text.size() && (quote != 0 || text[end] != '>'); ++end) {
      const char c = text[end];
      if (quote == 0 && (c == '\'' || c == '"')) {
        if (text[end - 1] != '=') return "stray quote in " + text.substr(i, 60);
        quote = c;
      } else if (c == quote) {
        quote = 0;
      } else if (c == '<') {
        return "bare < in " + text.substr(i, 60);
      } else if (c == '=' && quote == 0 && text[end + 1] != '\'' && text[end + 1] != '"') {
        return "unquoted attribute in " + text.substr(i, 60);
      }
    }
    if (end == text.size()) return "unclosed tag " + text.substr(i, 30);
    const std::string tag = text.substr(i + 1, end - i - 1);
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1)) return "unexpected </" + tag.substr(1);
      open.pop_back();
    } else if (!tag.ends_with("/")) {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    i = end + 1;
  }
  return open.empty() ? "" : "unclosed <" + open.back();
}

/// How often `part` occurs.
inline int count_of(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace moerl::testing
