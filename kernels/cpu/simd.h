#pragma once
// The vector type of the CPU kernels: sixteen fp32 lanes at every instruction level, so that a
// kernel written with it has one meaning and the same bits everywhere. One AVX-512 register, two
// AVX registers, or plain code; a multiply-add is always fused; sums over lanes are one fixed tree.
//
// Included by *_cpu.cc and *_amx.cc only. Everything is in an unnamed namespace: a function
// compiled for AVX-512 must never be the copy that the linker hands to a machine without it.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"
#include "kernels/isa.h"

#define MOERL_INLINE inline __attribute__((always_inline))

namespace moerl::kernels {
namespace {

inline constexpr int kLanes = 16;

#if defined(__AVX512F__)

struct F32x16 {
  __m512 v;
};
MOERL_INLINE F32x16 set1(float x) { return {_mm512_set1_ps(x)}; }
MOERL_INLINE F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
MOERL_INLINE void store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
MOERL_INLINE F32x16 load(const bf16* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
MOERL_INLINE void store(bf16* p, F32x16 a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  r = _mm512_srli_epi32(r, 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
}
MOERL_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
MOERL_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
MOERL_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
MOERL_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
/// a * b + c, rounded once.
MOERL_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// a > b ? a : b: the second operand where either is NaN.
MOERL_INLINE F32x16 max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
/// a < b ? a : b: the second operand where either is NaN.
MOERL_INLINE F32x16 min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
MOERL_INLINE F32x16 sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
/// a < b ? x : y, lane by lane; y where either is NaN.
MOERL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
/// 2^n for integral n in [-126, 127].
MOERL_INLINE F32x16 exp2_integer(F32x16 n) {
  const __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(i, 23))};
}
/// Splits positive normal a into m * 2^e with m in [1, 2).
MOERL_INLINE void split_exponent(F32x16 a, F32x16* m, F32x16* e) {
  const __m512i u = _mm512_castps_si512(a.v);
  e->v = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srli_epi32(u, 23), _mm512_set1_epi32(127)));
  m->v = _mm512_castsi512_ps(_mm512_or_si512(_mm512_and_si512(u, _mm512_set1_epi32(0x7FFFFF)),
                                             _mm512_set1_epi32(0x3F800000)));
}

#elif defined(__AVX2__)

struct F32x16 {
  __m256 lo, hi;
};
MOERL_INLINE F32x16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
MOERL_INLINE F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
MOERL_INLINE void store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
MOERL_INLINE F32x16 load(const bf16* p) {
  const __m128i lo = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i hi = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(lo), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(hi), 16))};
}
MOERL_INLINE __m256i bf16_bits(__m256 a) {
  const __m256i u = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r =
      _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
MOERL_INLINE void store(bf16* p, F32x16 a) {
  const __m256i packed = _mm256_packus_epi32(bf16_bits(a.lo), bf16_bits(a.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
}
MOERL_INLINE F32x16 operator+(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 operator-(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 operator*(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 operator/(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
MOERL_INLINE F32x16 max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
MOERL_INLINE F32x16 sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
MOERL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
MOERL_INLINE __m256 exp2_integer_half(__m256 n) {
  const __m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
MOERL_INLINE F32x16 exp2_integer(F32x16 n) {
  return {exp2_integer_half(n.lo), exp2_integer_half(n.hi)};
}
MOERL_INLINE void split_exponent_half(__m256 a, __m256* m, __m256* e) {
  const __m256i u = _mm256_castps_si256(a);
  *e = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(u, 23), _mm256_set1_epi32(127)));
  *m = _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(u, _mm256_set1_epi32(0x7FFFFF)),
                                           _mm256_set1_epi32(0x3F800000)));
}
MOERL_INLINE void split_exponent(F32x16 a, F32x16* m, F32x16* e) {
  split_exponent_half(a.lo, &m->lo, &e->lo);
  split_exponent_half(a.hi, &m->hi, &e->hi);
}

#else

struct F32x16 {
  float v[16];
};
template <typename F>
MOERL_INLINE F32x16 each_lane(F f) {
  F32x16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
MOERL_INLINE F32x16 set1(float x) {
  return each_lane([&](int) { return x; });
}
MOERL_INLINE F32x16 load(const float* p) {
  return each_lane([&](int i) { return p[i]; });
}
MOERL_INLINE void store(float* p, F32x16 a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
MOERL_INLINE F32x16 load(const bf16* p) {
  return each_lane([&](int i) { return to_float(p[i]); });
}
MOERL_INLINE void store(bf16* p, F32x16 a) {
  for (int i = 0; i < 16; ++i) p[i] = to_bf16(a.v[i]);
}
MOERL_INLINE F32x16 operator+(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] + b.v[i]; });
}
MOERL_INLINE F32x16 operator-(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] - b.v[i]; });
}
MOERL_INLINE F32x16 operator*(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] * b.v[i]; });
}
MOERL_INLINE F32x16 operator/(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] / b.v[i]; });
}
MOERL_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return each_lane([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
MOERL_INLINE F32x16 max(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
MOERL_INLINE F32x16 min(F32x16 a, F32x16 b) {
  return each_lane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
MOERL_INLINE F32x16 sqrt(F32x16 a) {
  return each_lane([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
MOERL_INLINE F32x16 select_less(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return each_lane([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
MOERL_INLINE F32x16 exp2_integer(F32x16 n) {
  return each_lane([&](int i) {
    // cvtps of NaN is INT_MIN; the caller's product with NaN stays NaN whatever this returns.
    const int32_t k = n.v[i] == n.v[i] ? static_cast<int32_t>(n.v[i]) : 0;
    return std::bit_cast<float>(static_cast<uint32_t>(k + 127) << 23);
  });
}
MOERL_INLINE void split_exponent(F32x16 a, F32x16* m, F32x16* e) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t u = std::bit_cast<uint32_t>(a.v[i]);
    e->v[i] = static_cast<float>(static_cast<int32_t>(u >> 23) - 127);
    m->v[i] = std::bit_cast<float>((u & 0x7FFFFF) | 0x3F800000);
  }
}

#endif

MOERL_INLINE F32x16 zero() { return set1(0.0f); }

/// Lane j of rows[i] becomes lane i of rows[j].
MOERL_INLINE void transpose(F32x16 (&rows)[kLanes]) {
#if defined(__AVX512F__)
  // Squares of 4 within the 128-bit quarters, then the quarters.
  __m512 t[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512d ab_lo = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i].v, rows[i + 1].v));
    const __m512d ab_hi = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i].v, rows[i + 1].v));
    const __m512d cd_lo = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v));
    const __m512d cd_hi = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v));
    t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_lo, cd_lo));
    t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_lo, cd_lo));
    t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_hi, cd_hi));
    t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_hi, cd_hi));
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 even_lo = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
    const __m512 odd_lo = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD);
    const __m512 even_hi = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
    const __m512 odd_hi = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xDD);
    rows[i].v = _mm512_shuffle_f32x4(even_lo, even_hi, 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(even_lo, even_hi, 0xDD);
    rows[i + 4].v = _mm512_shuffle_f32x4(odd_lo, odd_hi, 0x88);
    rows[i + 12].v = _mm512_shuffle_f32x4(odd_lo, odd_hi, 0xDD);
  }
#else
  float from[kLanes][kLanes], to[kLanes][kLanes];
  for (int i = 0; i < kLanes; ++i) store(from[i], rows[i]);
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) to[i][j] = from[j][i];
  for (int i = 0; i < kLanes; ++i) rows[i] = load(to[i]);
#endif
}

/// The first n < 16 elements, zeros behind them.
template <typename T>
MOERL_INLINE F32x16 load_partial(const T* p, int64_t n) {
  T buffer[16] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return load(buffer);
}
template <typename T>
MOERL_INLINE void store_partial(T* p, F32x16 a, int64_t n) {
  T buffer[16];
  store(buffer, a);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(T));
}

// Folds over the lanes: halves onto each other, 8, 4, 2, 1.
#if defined(__AVX2__)
#if defined(__AVX512F__)
MOERL_INLINE __m256 low_half(F32x16 a) { return _mm512_castps512_ps256(a.v); }
MOERL_INLINE __m256 high_half(F32x16 a) { return _mm512_extractf32x8_ps(a.v, 1); }
#else
MOERL_INLINE __m256 low_half(F32x16 a) { return a.lo; }
MOERL_INLINE __m256 high_half(F32x16 a) { return a.hi; }
#endif
/// Sum over the lanes.
MOERL_INLINE float sum_lanes(F32x16 a) {
  const __m256 s8 = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
/// Largest lane (no NaN handling: a NaN lane may or may not show).
MOERL_INLINE float max_lanes(F32x16 a) {
  const __m256 m8 = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
}
#else
MOERL_INLINE float sum_lanes(F32x16 a) {
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
  return a.v[0];
}
MOERL_INLINE float max_lanes(F32x16 a) {
  for (int half = 8; half >= 1; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
  return a.v[0];
}
#endif

/// e^x, relative error below 2 ulp; 0 below -87.33 (and for -inf), saturated above 88.37; NaN
/// stays.
MOERL_INLINE F32x16 exp(F32x16 x) {
  const F32x16 clamped = max(set1(-87.3365402f), min(set1(88.3762589f), x));
  const F32x16 magic = set1(12582912.0f);  // adding it rounds to an integer, ties to even
  const F32x16 n = fma(clamped, set1(1.44269504f), magic) - magic;
  F32x16 r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440e-4f), r);
  F32x16 p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p, r * r, r + set1(1.0f));
  return select_less(x, set1(-87.3365402f), zero(), p * exp2_integer(n));
}

/// Natural logarithm of positive normal x, relative error below 2 ulp.
MOERL_INLINE F32x16 log(F32x16 x) {
  F32x16 m, e;
  split_exponent(x, &m, &e);
  const F32x16 root2 = set1(1.41421356f);
  e = select_less(root2, m, e + set1(1.0f), e);
  m = select_less(root2, m, m * set1(0.5f), m);
  const F32x16 f = m - set1(1.0f), f2 = f * f;
  F32x16 p = set1(7.0376836292e-2f);
  p = fma(p, f, set1(-1.1514610310e-1f));
  p = fma(p, f, set1(1.1676998740e-1f));
  p = fma(p, f, set1(-1.2420140846e-1f));
  p = fma(p, f, set1(1.4249322787e-1f));
  p = fma(p, f, set1(-1.6668057665e-1f));
  p = fma(p, f, set1(2.0000714765e-1f));
  p = fma(p, f, set1(-2.4999993993e-1f));
  p = fma(p, f, set1(3.3333331174e-1f));
  p = p * f * f2;
  p = fma(e, set1(-2.12194440e-4f), p);
  p = fma(f2, set1(-0.5f), p);
  return fma(e, set1(0.693359375f), f + p);
}

/// 1 / (1 + e^-x).
MOERL_INLINE F32x16 sigmoid(F32x16 x) { return set1(1.0f) / (set1(1.0f) + exp(zero() - x)); }

MOERL_INLINE float exp_scalar(float x) {
  float t[16];
  store(t, exp(set1(x)));
  return t[0];
}
MOERL_INLINE float log_scalar(float x) {
  float t[16];
  store(t, log(set1(x)));
  return t[0];
}

}  // namespace
}  // namespace moerl::kernels
