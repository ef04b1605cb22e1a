#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace moerl {

/// SHA-256 (FIPS 180-4) as 64 lower-case hexadecimal digits.
std::string sha256(std::string_view bytes);
/// Of a file's content. @throws IoError if it cannot be read.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace moerl
