#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/quant/decode_impl.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels {
namespace {

// F16 has five bits of exponent and E4M3 four, so an E4M3 number is an F16 number that is 2^8 times
// smaller. Every step but the product by `scale` is exact, so that the level cannot show in the
// bits. NaNs keep their mantissa and become quiet.

#if defined(__AVX2__)

MOERL_INLINE F32x16 widen_f16(__m256i h) {
#if defined(__AVX512F__)
  return {_mm512_cvtph_ps(h)};
#else
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(h)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
#endif
}

MOERL_INLINE F32x16 load_f16(const uint16_t* p) {
  return widen_f16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

MOERL_INLINE F32x16 load_e4m3(const uint8_t* p) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  // The sign, widened, fills bits 15 and 14: the second is the highest of the exponent.
  const __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7);
  const __m256i all_ones = _mm256_set1_epi16(0x3F80), exponent = _mm256_set1_epi16(0x4000);
  const __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(wide, all_ones), all_ones);
  const __m256i h =
      _mm256_or_si256(_mm256_andnot_si256(exponent, wide), _mm256_and_si256(is_nan, exponent));
  return widen_f16(h) * set1(0x1p8f);
}

/// E4M3 times a scale, as bf16. A number has one of eight mantissas, or is one of eight subnormals,
/// and rounding commutes with powers of two: so a code is looked up among the sixteen products at
/// the smallest exponent, and its exponent added to that of the product.
class ScaledE4m3 {
 public:
  explicit ScaledE4m3(float scale) {
    alignas(64) uint8_t codes[kLanes];
    for (int i = 0; i < 8; ++i) {
      codes[i] = static_cast<uint8_t>(8 + i);  // exponent 1
      codes[8 + i] = static_cast<uint8_t>(i);  // exponent 0: subnormal
    }
    alignas(64) uint16_t products[kLanes];
    store(reinterpret_cast<bf16*>(products), load_e4m3(codes) * set1(scale));
    for (int i = 0; i < 8; ++i) products[i] = static_cast<uint16_t>(products[i] - (1 << 7));
    const int smallest = scale > 0 ? products[0] >> 7 : 0;
    applies_ = smallest >= 1 && smallest + 16 < 255;
    const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(products));
    const __m256i bytes = _mm256_set1_epi16(0xFF);
    const __m256i low = _mm256_and_si256(words, bytes), high = _mm256_srli_epi16(words, 8);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xD8);
    low_ = _mm256_permute2x128_si256(packed, packed, 0x00);
    high_ = _mm256_permute2x128_si256(packed, packed, 0x11);
  }

  /// All products are zero or normal bf16 numbers, as the lookup wants them.
  bool applies() const { return applies_; }

  /// Writes 32 products. False if there is a NaN among the codes.
  bool decode(const std::byte* codes, bf16* out) const {
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
    const __m256i exponent = _mm256_and_si256(c, _mm256_set1_epi8(0x78));
    const __m256i subnormal = _mm256_cmpeq_epi8(exponent, _mm256_setzero_si256());
    const __m256i index = _mm256_or_si256(_mm256_and_si256(c, _mm256_set1_epi8(7)),
                                          _mm256_and_si256(subnormal, _mm256_set1_epi8(8)));
    const __m256i sign = _mm256_and_si256(c, _mm256_set1_epi8(static_cast<char>(0x80)));
    const __m256i low = _mm256_shuffle_epi8(low_, index);
    const __m256i high = _mm256_or_si256(_mm256_shuffle_epi8(high_, index), sign);
    const __m256i zero_bytes = _mm256_setzero_si256();
    const __m256i even =  // elements 0-7 and 16-23
        _mm256_add_epi16(_mm256_unpacklo_epi8(low, high),
                         _mm256_slli_epi16(_mm256_unpacklo_epi8(exponent, zero_bytes), 4));
    const __m256i odd =  // elements 8-15 and 24-31
        _mm256_add_epi16(_mm256_unpackhi_epi8(low, high),
                         _mm256_slli_epi16(_mm256_unpackhi_epi8(exponent, zero_bytes), 4));
    __m256i* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
    const __m256i magnitude = _mm256_set1_epi8(0x7F);
    const __m256i nan = _mm256_cmpeq_epi8(_mm256_and_si256(c, magnitude), magnitude);
    return _mm256_testz_si256(nan, nan) != 0;
  }

 private:
  __m256i low_, high_;  // bytes of the products, in each half
  bool applies_;
};

#else

/// Exponent bias and mantissa moved to where fp32 has them. A subnormal is read as if it had a
/// leading one at the smallest exponent, which is then subtracted.
float widen_f16(uint32_t half) {
  constexpr uint32_t kBias = 127 - 15, kSmallest = (kBias + 1) << 23;
  const uint32_t magnitude = half & 0x7FFF, sign = (half & 0x8000) << 16;
  const uint32_t mantissa = magnitude << 13 & 0x7FFFFF;
  uint32_t bits = (magnitude << 13) + (kBias << 23);
  if (magnitude >= 0x7C00) {
    bits = 0x7F800000 | mantissa | (mantissa == 0 ? 0 : 0x400000);
  } else if (magnitude >> 10 == 0) {
    const float subnormal =
        std::bit_cast<float>(kSmallest | mantissa) - std::bit_cast<float>(kSmallest);
    bits = std::bit_cast<uint32_t>(subnormal);
  }
  return std::bit_cast<float>(bits | sign);
}

MOERL_INLINE F32x16 load_f16(const uint16_t* p) {
  return each_lane([&](int i) { return widen_f16(p[i]); });
}

MOERL_INLINE F32x16 load_e4m3(const uint8_t* p) {
  return each_lane([&](int i) { return from_e4m3(p[i]); });
}

#endif

/// out[i] = load of the i-th stored number; Stored is its type in memory, which need not be
/// aligned.
template <typename Stored, typename To, typename Load>
void decode_range(const std::byte* data, int64_t count, To* out, const Load& load_lanes) {
  for_each_lanes(count, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    Stored lanes[kLanes] = {};
    std::memcpy(lanes, data + i * static_cast<int64_t>(sizeof(Stored)),
                static_cast<size_t>(n) * sizeof(Stored));
    store_n(out + i, load_lanes(lanes), n);
  });
}

/// Copies; NaNs become quiet.
void decode_bf16(const std::byte* data, int64_t count, bf16* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, data + 2 * i, sizeof bits);
    const bool is_nan = (bits & 0x7FFF) > 0x7F80;
    bits = static_cast<uint16_t>(bits | (is_nan ? 0x40 : 0));
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

template <typename To>
void decode_e4m3(const std::byte* data, int64_t count, float scale, To* out) {
  int64_t begin = 0;
#if defined(__AVX2__)
  if constexpr (std::is_same_v<To, bf16>)
    if (const ScaledE4m3 scaled(scale); scaled.applies())
      while (begin + 32 <= count && scaled.decode(data + begin, out + begin)) begin += 32;
#endif
  decode_range<uint8_t>(data + begin, count - begin, out + begin,
                        [=](const uint8_t* p)
                            MOERL_INLINE_LAMBDA { return load_e4m3(p) * set1(scale); });
}

template <typename To>
void decode_to(StoredFloat format, const std::byte* data, int64_t count, float scale, To* out) {
  switch (format) {
    case StoredFloat::kF32:
      return decode_range<float>(data, count, out,
                                 [](const float* p) MOERL_INLINE_LAMBDA { return load(p); });
    case StoredFloat::kBF16:
      if constexpr (std::is_same_v<To, bf16>) return decode_bf16(data, count, out);
      return decode_range<bf16>(data, count, out,
                                [](const bf16* p) MOERL_INLINE_LAMBDA { return load(p); });
    case StoredFloat::kF16:
      return decode_range<uint16_t>(
          data, count, out, [](const uint16_t* p) MOERL_INLINE_LAMBDA { return load_f16(p); });
    case StoredFloat::kE4M3:
      return decode_e4m3(data, count, scale, out);
  }
}

}  // namespace

template <>
void DecodeCpu<kIsa>::decode(StoredFloat format, const std::byte* data, int64_t count, float scale,
                             DType dtype, void* out) {
  if (dtype == DType::kBF16) return decode_to(format, data, count, scale, static_cast<bf16*>(out));
  if (format != StoredFloat::kF32)
    return decode_to(format, data, count, scale, static_cast<float*>(out));
  if (count > 0) std::memcpy(out, data, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace moerl::kernels
