#include <cstring>

#include "kernels/cpu/dispatch.h"
#include "kernels/quant/decode_impl.h"

namespace moerl::kernels {
namespace {

// Plain loops without branches, which the compiler turns into vectors. Every step is exact (integer
// work, or a product by a power of two), so that the level cannot show in the bits.

float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// A choice in arithmetic: the compiler would take `?:` for a branch around the floating-point work
/// and not vectorise the loop.
uint32_t choose(bool first, uint32_t a, uint32_t b) {
  const uint32_t mask = 0u - uint32_t{first};
  return (a & mask) | (b & ~mask);
}

/// Exponent bias and mantissa of the small format moved to where fp32 has them. A subnormal is read
/// as if it had a leading one at the smallest exponent, which is then subtracted.
template <int kExponentBits, int kMantissaBits>
float widen(uint32_t magnitude, uint32_t sign, bool not_finite, uint32_t not_finite_bits) {
  constexpr int kShift = 23 - kMantissaBits;
  constexpr uint32_t kBias = 127 - ((1u << (kExponentBits - 1)) - 1);
  constexpr uint32_t kSmallest = (kBias + 1) << 23;
  const uint32_t normal = (magnitude << kShift) + (kBias << 23);
  const float subnormal = float_of(kSmallest | (magnitude << kShift)) - float_of(kSmallest);
  const uint32_t bits = choose(magnitude >> kMantissaBits == 0, bits_of(subnormal), normal);
  return float_of(choose(not_finite, not_finite_bits, bits) | sign);
}

void decode_bf16(const std::byte* data, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    __builtin_memcpy(&bits, data + 2 * i, sizeof bits);
    const uint32_t wide = uint32_t{bits} << 16;
    __builtin_memcpy(out + i, &wide, sizeof wide);
  }
}

void decode_f16(const std::byte* data, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    __builtin_memcpy(&bits, data + 2 * i, sizeof bits);
    const uint32_t magnitude = bits & 0x7FFFu;
    out[i] = widen<5, 10>(magnitude, uint32_t{bits & 0x8000u} << 16, magnitude >= 0x7C00,
                          0x7F800000u | (magnitude & 0x3FF) << 13);
  }
}

void decode_e4m3(const std::byte* data, int64_t count, float scale, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<uint32_t>(data[i]);
    const uint32_t magnitude = bits & 0x7F;
    out[i] = widen<4, 3>(magnitude, (bits & 0x80) << 24, magnitude == 0x7F, 0x7FC00000u) * scale;
  }
}

}  // namespace

template <>
void DecodeCpu<kIsa>::decode(StoredFloat format, const std::byte* data, int64_t count, float scale,
                             float* out) {
  switch (format) {
    case StoredFloat::kF32:
      if (count > 0) std::memcpy(out, data, static_cast<size_t>(count) * sizeof(float));
      return;
    case StoredFloat::kBF16:
      return decode_bf16(data, count, out);
    case StoredFloat::kF16:
      return decode_f16(data, count, out);
    case StoredFloat::kE4M3:
      return decode_e4m3(data, count, scale, out);
  }
}

}  // namespace moerl::kernels
