#include "policy/tokenizer/byte_alphabet.h"

#include <array>

namespace moerl::policy {
namespace {

constexpr int kNumSymbols = 256 + 68;  // code points below this may be symbols

struct Alphabet {
  std::array<std::string, 256> symbol_of_byte;
  std::array<int, kNumSymbols> byte_of_code_point;

  Alphabet() {
    byte_of_code_point.fill(-1);
    int next_free = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool is_own =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const int code_point = is_own ? byte : next_free++;
      byte_of_code_point[static_cast<size_t>(code_point)] = byte;
      std::string& symbol = symbol_of_byte[static_cast<size_t>(byte)];
      if (code_point < 0x80) {
        symbol = static_cast<char>(code_point);
      } else {
        symbol = {static_cast<char>(0xC0 | (code_point >> 6)),
                  static_cast<char>(0x80 | (code_point & 0x3F))};
      }
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::string& byte_symbol(uint8_t byte) { return alphabet().symbol_of_byte[byte]; }

std::string bytes_to_symbols(std::string_view bytes) {
  std::string symbols;
  for (char byte : bytes) symbols += byte_symbol(static_cast<uint8_t>(byte));
  return symbols;
}

std::optional<std::string> symbols_to_bytes(std::string_view symbols) {
  std::string bytes;
  bytes.reserve(symbols.size());
  for (size_t i = 0; i < symbols.size(); ++i) {
    int code_point = static_cast<uint8_t>(symbols[i]);
    if (code_point >= 0x80) {
      if ((code_point & 0xE0) != 0xC0 || i + 1 == symbols.size()) return std::nullopt;
      code_point = ((code_point & 0x1F) << 6) | (static_cast<uint8_t>(symbols[++i]) & 0x3F);
    }
    if (code_point >= kNumSymbols) return std::nullopt;
    const int byte = alphabet().byte_of_code_point[static_cast<size_t>(code_point)];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace moerl::policy
