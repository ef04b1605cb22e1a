#pragma once
#include <bit>
#include <cstdint>

namespace moerl {

enum class DType : uint8_t { kF32, kBF16, kI32, kI64, kF64 };

constexpr int64_t dtype_size(DType dtype) {
  return dtype == DType::kBF16 ? 2 : dtype == DType::kI64 || dtype == DType::kF64 ? 8 : 4;
}
constexpr const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kF64:
      return "f64";
  }
  return "?";
}

/// A bfloat16 value: the upper half of an IEEE single.
struct bf16 {
  uint16_t bits;
};

constexpr float to_float(bf16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }
constexpr float to_float(float value) { return value; }

/// Rounds to nearest, ties to even. NaN stays NaN.
constexpr bf16 to_bf16(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  if ((u & 0x7FFFFFFF) > 0x7F800000) return {static_cast<uint16_t>((u >> 16) | 0x40)};
  return {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}

template <typename T>
inline constexpr DType kDTypeOf = DType::kF32;
template <>
inline constexpr DType kDTypeOf<bf16> = DType::kBF16;
template <>
inline constexpr DType kDTypeOf<int32_t> = DType::kI32;
template <>
inline constexpr DType kDTypeOf<int64_t> = DType::kI64;
template <>
inline constexpr DType kDTypeOf<double> = DType::kF64;

}  // namespace moerl
