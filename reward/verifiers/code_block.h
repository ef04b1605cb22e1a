#pragma once
#include <optional>
#include <string_view>

namespace moerl::reward {

enum class CodeLanguage { kPython, kCpp };

/// The language of a name such as "python", "py" or "C++"; empty optional if it is another one.
std::optional<CodeLanguage> parse_language(std::string_view name);

/// The content of the last closed ``` block of `text` that is marked as the language, or, if
/// `untagged` is set and there is none, of the last closed block without a mark. Linear in the
/// length of the text.
std::optional<std::string_view> last_code_block(std::string_view text, CodeLanguage language,
                                                bool untagged);

}  // namespace moerl::reward
