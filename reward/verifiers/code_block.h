#pragma once
#include <optional>
#include <string_view>
#include <vector>

namespace moerl::reward {

enum class CodeLanguage { kPython, kCpp };

/// The language of a name such as "python", "py" or "C++"; empty optional if it is another one.
std::optional<CodeLanguage> parse_language(std::string_view name);

/// A closed ``` block: the first word after the fence, and what stands between the fences.
struct CodeBlock {
  std::string_view mark, content;
};

/// The closed ``` blocks of `text`, in order. Linear in the length of the text.
std::vector<CodeBlock> code_blocks(std::string_view text);

/// The content of the last closed ``` block of `text` that is marked as the language, or, if
/// `untagged` is set and there is none, of the last closed block without a mark.
std::optional<std::string_view> last_code_block(std::string_view text, CodeLanguage language,
                                                bool untagged);

}  // namespace moerl::reward
