#pragma once
#include <array>
#include <bit>
#include <cstdint>

namespace moerl::kernels {

/// Rows and columns of a block of an FP8 weight that share one scale, and columns of a tile of an
/// FP8 activation (DeepSeek-V3 report, 3.3.2).
inline constexpr int64_t kFp8Block = 128;
inline constexpr float kLargestE4m3 = 448;

/// The nearest E4M3 code (OCP's e4m3fn; decode.h), ties to even; a NaN is one of 0x7F and 0xFF.
/// REQUIRES: |value| < 464, behind which E4M3 would overflow.
constexpr uint8_t to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7FFFFFFF;
  const uint32_t sign = bits >> 31 << 7;
  if (magnitude > 0x7F800000) return static_cast<uint8_t>(sign | 0x7F);
  if (magnitude < std::bit_cast<uint32_t>(0x1p-6f)) {
    // Subnormal: multiples of 2^-9. Adding 2^14 puts that unit in the last place.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<uint8_t>(sign | static_cast<uint32_t>((shifted - 0x1p14f) * 0x1p9f));
  }
  // Round at the third bit of the mantissa.
  const uint32_t rounded = magnitude + 0x7FFFF + ((magnitude >> 20) & 1);
  return static_cast<uint8_t>(sign | ((rounded >> 20) - (120u << 3)));
}

/// The value of an E4M3 code.
constexpr float from_e4m3(uint8_t code) {
  const uint32_t sign = uint32_t{code} >> 7 << 31, magnitude = code & 0x7F;
  if (magnitude == 0x7F) return std::bit_cast<float>(sign | 0x7FF00000);
  if (magnitude < 8) {
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude + (120u << 3)) << 20));
}

/// from_e4m3 of every code.
constexpr std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (size_t code = 0; code < values.size(); ++code)
    values[code] = from_e4m3(static_cast<uint8_t>(code));
  return values;
}

}  // namespace moerl::kernels
