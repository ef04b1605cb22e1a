#include "reward/verifiers/code_block.h"

#include <algorithm>
#include <string>

#include "reward/verifiers/answer_text.h"

namespace moerl::reward {

std::optional<CodeLanguage> parse_language(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const char* each : {"python", "py", "python3"})
    if (lower == each) return CodeLanguage::kPython;
  for (const char* each : {"cpp", "c++", "cc", "cxx"})
    if (lower == each) return CodeLanguage::kCpp;
  return std::nullopt;
}

std::vector<CodeBlock> code_blocks(std::string_view text) {
  std::vector<CodeBlock> blocks;
  CodeBlock block;
  size_t content = 0;
  bool is_open = false;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (const std::string_view fence = strip(line); fence.starts_with("```")) {
      const std::string_view rest = strip(fence.substr(3));
      if (!is_open) {
        block.mark = rest.substr(0, rest.find_first_of(" \t{"));
        content = std::min(end + 1, text.size());
        is_open = true;
      } else if (rest.empty()) {
        block.content = text.substr(content, begin - content);
        blocks.push_back(block);
        is_open = false;
      }
    }
    begin = end + 1;
  }
  return blocks;
}

std::optional<std::string_view> last_code_block(std::string_view text, CodeLanguage language,
                                                bool untagged) {
  std::optional<std::string_view> marked, plain;
  for (const CodeBlock& block : code_blocks(text)) {
    if (block.mark.empty())
      plain = block.content;
    else if (parse_language(block.mark) == language)
      marked = block.content;
  }
  return marked || !untagged ? marked : plain;
}

}  // namespace moerl::reward
