#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moerl::policy {

/// The alphabet in which byte-level BPE files spell bytes: bytes 33-126, 161-172 and 174-255 are
/// the code points of the same number, the other 68 in increasing order are U+0100, U+0101, …
/// (space is U+0120 'Ġ', newline U+010A 'Ċ'). Source: Radford et al. 2019 (GPT-2), encoder.py.

/// The UTF-8 spelling of one byte.
const std::string& byte_symbol(uint8_t byte);

/// The spelling of a byte string.
std::string bytes_to_symbols(std::string_view bytes);

/// The bytes that a spelling stands for, or nothing if a character is not of the alphabet.
std::optional<std::string> symbols_to_bytes(std::string_view symbols);

}  // namespace moerl::policy
