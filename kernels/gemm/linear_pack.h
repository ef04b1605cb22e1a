#pragma once
// Packing of the operands. Included by *_cpu.cc and *_amx.cc.
#include "kernels/cpu/simd.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {
namespace {

/// Transposes 16 x 16 words; strides in words.
#if defined(__AVX512F__)
MOERL_INLINE void transpose_words(const uint32_t* from, int64_t from_stride, uint32_t* to,
                                  int64_t to_stride) {
  __m512i r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(from + i * from_stride);
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
  }
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * to_stride, r[i]);
}
#elif defined(__AVX2__)
MOERL_INLINE void transpose_8x8(const uint32_t* from, int64_t from_stride, uint32_t* to,
                                int64_t to_stride) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i)
    r[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(from + i * from_stride));
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    float* low = reinterpret_cast<float*>(to + i * to_stride);
    float* high = reinterpret_cast<float*>(to + (i + 4) * to_stride);
    _mm256_storeu_ps(low, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(high, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
MOERL_INLINE void transpose_words(const uint32_t* from, int64_t from_stride, uint32_t* to,
                                  int64_t to_stride) {
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 16; j += 8)
      transpose_8x8(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}
#else
MOERL_INLINE void transpose_words(const uint32_t* from, int64_t from_stride, uint32_t* to,
                                  int64_t to_stride) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}
#endif

MOERL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// Up to 16 elements as fp32 or bf16, zeros behind the first n.
template <typename To, typename From>
MOERL_INLINE void copy_lanes(const From* from, int64_t n, To* to) {
  if (n >= kLanes) return store(to, load(from));
  store(to, n > 0 ? load_partial(from, n) : zero());
}
MOERL_INLINE void copy_lanes(const bf16* from, int64_t n, bf16* to) {
  bf16 lanes[kLanes] = {};
  if (n >= kLanes)
    std::memcpy(lanes, from, sizeof lanes);
  else if (n > 0)
    std::memcpy(lanes, from, static_cast<size_t>(n) * sizeof(bf16));
  std::memcpy(to, lanes, sizeof lanes);
}

/// One panel of the fp32 image with depth along the source's columns.
MOERL_INLINE void pack_panel_rows(const float* source, int64_t rows, int64_t stride, int64_t depth,
                                  float* panel) {
  alignas(64) float square[256], turned[256];
  for (int64_t k = 0; k < depth; k += 16) {
    const int64_t width = smaller(16, depth - k);
    const bool whole = rows >= 16 && width == 16;
    if (!whole)
      for (int64_t r = 0; r < 16; ++r)
        copy_lanes(source + r * stride + k, r < rows ? width : 0, square + r * 16);
    float* to = panel + k * kPanelColumns;
    float* out = width == 16 ? to : turned;
    transpose_words(reinterpret_cast<const uint32_t*>(whole ? source + k : square),
                    whole ? stride : 16, reinterpret_cast<uint32_t*>(out), 16);
    if (width < 16) std::memcpy(to, turned, static_cast<size_t>(width) * 16 * sizeof(float));
  }
}

/// One tile of the bf16 image, 16 columns by 32 of depth, with depth along the source's columns.
template <typename From>
MOERL_INLINE void pack_tile_rows(const From* source, int64_t rows, int64_t stride, int64_t depth,
                                 bf16* tile) {
  if constexpr (std::is_same_v<From, bf16>)
    if (rows >= 16 && depth >= kBlock && stride % 2 == 0)
      return transpose_words(reinterpret_cast<const uint32_t*>(source), stride / 2,
                             reinterpret_cast<uint32_t*>(tile), 16);
  alignas(64) bf16 square[kTileElements];
  for (int64_t r = 0; r < 16; ++r)
    for (int64_t k = 0; k < kBlock; k += 16)
      copy_lanes(source + r * stride + k, r < rows ? depth - k : 0, square + r * kBlock + k);
  transpose_words(reinterpret_cast<const uint32_t*>(square), 16, reinterpret_cast<uint32_t*>(tile),
                  16);
}

/// Interleaves two rows of 16 elements into pairs.
MOERL_INLINE void interleave(const bf16* even, const bf16* odd, bf16* pairs) {
#if defined(__AVX2__)
  const __m256i e = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(even));
  const __m256i o = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd));
  const __m256i low = _mm256_unpacklo_epi16(e, o), high = _mm256_unpackhi_epi16(e, o);
  __m256i* to = reinterpret_cast<__m256i*>(pairs);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
#else
  for (int i = 0; i < 16; ++i) {
    pairs[2 * i] = even[i];
    pairs[2 * i + 1] = odd[i];
  }
#endif
}

/// 16 source columns by 32 rows as 16 rows of pairs [16 pairs][16 columns][2]: a tile of the bf16
/// image with depth along the source's rows.
template <typename From>
MOERL_INLINE void pack_tile_columns(const From* source, int64_t depth, int64_t stride,
                                    int64_t columns, bf16* tile) {
  bf16 even[16], odd[16];
  for (int64_t pair = 0; pair < 16; ++pair) {
    const From* from = source + 2 * pair * stride;
    copy_lanes(from, 2 * pair < depth ? columns : 0, even);
    copy_lanes(from + stride, 2 * pair + 1 < depth ? columns : 0, odd);
    interleave(even, odd, tile + pair * kBlock);
  }
}

}  // namespace
}  // namespace moerl::kernels
