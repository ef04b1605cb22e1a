#pragma once
#include <string>
#include <string_view>

namespace moerl {

/// Refuses text that is not JSON to work with: bad syntax, a key twice in one object (a parser
/// would drop one of them), or nesting deeper than 64 (more than any format of ours has, and code
/// that walks a value recursively must not run out of stack).
/// @param name  how errors call the text, such as the file's path.
/// @throws IoError.
void check_json(const std::string& name, std::string_view text);

}  // namespace moerl
