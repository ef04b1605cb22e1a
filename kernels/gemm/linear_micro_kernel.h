#pragma once
// The inner loops: R rows times P panels of 16 columns held in registers. Included by *_cpu.cc.
#include "kernels/cpu/simd.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {
namespace {

/// Vectors that hold sums; the other registers carry weights and the broadcast element.
#if defined(__AVX512F__)
inline constexpr int kSums = 24;
#else
inline constexpr int kSums = 6;  // pairs of AVX registers
#endif

/// Rows of a block. bf16 on AVX-512: as many as leave room for both chains; on AVX two registers
/// more for what unpacks the weights.
template <typename T>
inline constexpr int kMaxRows = kSums == 24 ? (sizeof(T) == 2 ? 8 : 12) : (sizeof(T) == 2 ? 4 : 6);

/// The rows of a left operand in fp32: element (r, k) is data[r * row_stride + k * depth_stride].
struct Left {
  const float* data;
  int64_t row_stride, depth_stride;
};

/// The even (low) and odd (high) elements of 16 pairs of bf16, as fp32.
#if defined(__AVX512F__)
MOERL_INLINE F32x16 load_even(const bf16* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
MOERL_INLINE F32x16 load_odd(const bf16* p) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), mask))};
}
#elif defined(__AVX2__)
MOERL_INLINE __m256i load_words(const bf16* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
MOERL_INLINE F32x16 load_even(const bf16* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(load_words(p), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(load_words(p + 16), 16))};
}
MOERL_INLINE F32x16 load_odd(const bf16* p) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(load_words(p), mask)),
          _mm256_castsi256_ps(_mm256_and_si256(load_words(p + 16), mask))};
}
#else
MOERL_INLINE F32x16 load_even(const bf16* p) {
  return each_lane([&](int i) { return to_float(p[2 * i]); });
}
MOERL_INLINE F32x16 load_odd(const bf16* p) {
  return each_lane([&](int i) { return to_float(p[2 * i + 1]); });
}
#endif

/// Asks for the weights 32 blocks (64 KiB of the image) ahead. A panel is every other KiB of it,
/// which the hardware does not foresee. Into L2: what L1 can have under way would halve the rate.
MOERL_INLINE void prefetch_weights(const bf16* words) {
  __builtin_prefetch(words + 32 * 2 * kTileElements, 0, 2);
}

/// Whether both bf16 chains of R rows, and the weights of both, fit into the registers.
template <int R>
constexpr bool two_chains_fit() {
  return 3 * R <= kSums;
}

/// Panels that R rows are multiplied with at a time, so that sums (bf16: chains) fill the
/// registers.
template <typename T, int R>
constexpr int panels_at_once() {
  constexpr int fit = sizeof(T) == 2 && two_chains_fit<R>() ? kSums / (3 * R) : kSums / R;
  constexpr int most = sizeof(T) == 2 ? 2 : 4;
  return fit >= most ? most : fit >= 2 ? 2 : 1;
}

template <int R, int P>
MOERL_INLINE void set_zero(F32x16 (&sum)[R][P]) {
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) sum[r][p] = zero();
}

/// sum = fma(a[k], b[k], sum), k ascending.
template <int R, int P>
MOERL_INLINE void add_products(Left a, const float* const (&b)[P], int64_t depth,
                               F32x16 (&sum)[R][P]) {
  const float* x = a.data;
  for (int64_t k = 0; k < depth; ++k, x += a.depth_stride) {
    F32x16 w[P];
    for (int p = 0; p < P; ++p) w[p] = load(b[p] + k * kPanelColumns);
    for (int r = 0; r < R; ++r) {
      const F32x16 xr = set1(x[r * a.row_stride]);
      for (int p = 0; p < P; ++p) sum[r][p] = fma(xr, w[p], sum[r][p]);
    }
  }
}

/// One chain of a block: over the even or over the odd elements of the 16 pairs.
template <bool kOdd, int R, int P>
MOERL_INLINE void add_chain(const float* x, Left a, const bf16* const (&b)[P], int64_t offset,
                            F32x16 (&chain)[R][P]) {
  x += kOdd ? a.depth_stride : 0;
  for (int pair = 0; pair < 16; ++pair, x += 2 * a.depth_stride) {
    F32x16 w[P];
    for (int p = 0; p < P; ++p) {
      const bf16* words = b[p] + offset + pair * kBlock;
      if (!kOdd) prefetch_weights(words);
      w[p] = kOdd ? load_odd(words) : load_even(words);
    }
    for (int r = 0; r < R; ++r) {
      const F32x16 xr = set1(x[r * a.row_stride]);
      for (int p = 0; p < P; ++p) chain[r][p] = fma(xr, w[p], chain[r][p]);
    }
  }
}

/// Both chains of a block in one pass, where the registers hold them.
template <int R, int P>
MOERL_INLINE void add_both_chains(const float* x, Left a, const bf16* const (&b)[P], int64_t offset,
                                  F32x16 (&even)[R][P], F32x16 (&odd)[R][P]) {
  for (int pair = 0; pair < 16; ++pair, x += 2 * a.depth_stride) {
    for (int p = 0; p < P; ++p) {
      const bf16* words = b[p] + offset + pair * kBlock;
      prefetch_weights(words);
      const F32x16 w_even = load_even(words), w_odd = load_odd(words);
      for (int r = 0; r < R; ++r) {
        const float* xr = x + r * a.row_stride;
        even[r][p] = fma(set1(xr[0]), w_even, even[r][p]);
        odd[r][p] = fma(set1(xr[a.depth_stride]), w_odd, odd[r][p]);
      }
    }
  }
}

/// Per block of 32: sum += (chain over even k) + (chain over odd k). `depth` is a multiple of 32.
template <int R, int P>
MOERL_INLINE void add_products(Left a, const bf16* const (&b)[P], int64_t depth,
                               F32x16 (&sum)[R][P]) {
  const float* x = a.data;
  for (int64_t k = 0; k < depth; k += kBlock, x += kBlock * a.depth_stride) {
    F32x16 even[R][P], odd[R][P];
    const int64_t offset = k * kBlock;  // of the block: two tiles of 512
    set_zero(even);
    set_zero(odd);
    if constexpr (two_chains_fit<R>()) {
      add_both_chains(x, a, b, offset, even, odd);
    } else {
      add_chain<false>(x, a, b, offset, even);
      add_chain<true>(x, a, b, offset, odd);
    }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) sum[r][p] = sum[r][p] + (even[r][p] + odd[r][p]);
  }
}

MOERL_INLINE const float* panel_of(const float* image, int64_t depth, int64_t panel) {
  return image + panel * depth * kPanelColumns;
}
/// @param depth  padded to 32.
MOERL_INLINE const bf16* panel_of(const bf16* image, int64_t depth, int64_t panel) {
  return image + panel / 2 * depth * kBlock + panel % 2 * kTileElements;
}

/// Writes the first `columns` (all 16 if more) lanes of a finished sum.
template <typename T>
MOERL_INLINE void write(T* y, F32x16 sum, int64_t columns, bool accumulate) {
  if (columns >= kPanelColumns) {
    store(y, accumulate ? load(y) + sum : sum);
  } else {
    store_partial(y, accumulate ? load_partial(y, columns) + sum : sum, columns);
  }
}

/// Calls f.template operator()<R>() for R = rows, 1 <= rows <= kMax.
template <int kMax, typename F>
MOERL_INLINE void with_rows(int64_t rows, const F& f) {
  if constexpr (kMax == 1) {
    f.template operator()<1>();
  } else {
    if (rows == kMax) return f.template operator()<kMax>();
    with_rows<kMax - 1>(rows, f);
  }
}

}  // namespace
}  // namespace moerl::kernels
