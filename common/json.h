#pragma once
// JSON, by nlohmann's library. Its parser and its classes are compiled here alone, since they cost
// every file that instantiates them seconds.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace moerl {

/// @tparam Json  nlohmann::json, or nlohmann::ordered_json, which keeps the order of keys.
/// @throws nlohmann::json::parse_error  if the text is not JSON.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text);
/// The same, but for text that is not JSON the value that says is_discarded().
template <typename Json = nlohmann::json>
Json try_parse_json(std::string_view text);

/// Refuses text that is not JSON to work with: bad syntax, a key twice in one object (a parser
/// would drop one of them), or nesting deeper than 64 (more than any format of ours has, and code
/// that walks a value recursively must not run out of stack).
/// @param name  how errors call the text, such as the file's path.
/// @throws IoError.
void check_json(const std::string& name, std::string_view text);

}  // namespace moerl
