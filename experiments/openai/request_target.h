#pragma once
#include <string>
#include <string_view>

namespace moerl::openai {

/// The path that a request's target names: without scheme and host (RFC 9112, 3.2.2) and query,
/// percent-encoded bytes decoded once; what is no encoding stays as it is. Pure.
std::string path_of_target(std::string_view target);

}  // namespace moerl::openai
