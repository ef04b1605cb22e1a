#pragma once
// Register tiles of the attention products. Included by attention*_cpu.cc only.
#include "kernels/attention/attention_impl.h"
#include "kernels/cpu/simd.h"

namespace moerl::kernels {
namespace {

// Rows of one register tile, and vectors side by side in it: what fits the register file.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 8;
constexpr int tile_vectors(int rows) { return rows <= 6 ? 4 : 2; }
#else
inline constexpr int kTileRows = 6;
constexpr int tile_vectors(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
#endif
/// Vectors that the row tiles of a product go over together, so that they share what is in L1.
inline constexpr int64_t kSweepVectors = 4;

/// Where the sums of a tile start.
enum class Start { kZero, kStored, kScaled };

/// A product c[r, lane] = start + sum over k ascending of a[r, k] * b[k, lane], one chain of fused
/// multiply-adds for each element.
template <typename T>
struct TileProduct {
  const float* a;  ///< element (r, k) at r * a_row + k * a_step
  int64_t a_row, a_step;
  const T* b;  ///< element (k, lane) at k * b_step + lane
  int64_t b_step;
  float* c;  ///< element (r, lane) at r * c_row + lane
  int64_t c_row;
  const float* factor;  ///< Start::kScaled: c[r, :] is multiplied by factor[r] first

  void skip_vectors(int64_t n) {
    b += n * kLanes;
    c += n * kLanes;
  }
};

template <int R, int W, Start start, typename T>
void multiply_tile(const TileProduct<T>& p, int64_t depth) {
  F32x16 sum[R][W];
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) {
      if constexpr (start == Start::kZero) {
        sum[r][w] = zero();
      } else {
        sum[r][w] = load(p.c + r * p.c_row + w * kLanes);
        if constexpr (start == Start::kScaled) sum[r][w] = sum[r][w] * set1(p.factor[r]);
      }
    }
  const float* a = p.a;
  const T* b = p.b;
  const int64_t a_row = p.a_row, a_step = p.a_step, b_step = p.b_step;
  for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_step) {
    F32x16 bk[W];
    for (int w = 0; w < W; ++w) bk[w] = load(b + w * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F32x16 ark = set1(a[r * a_row]);
      for (int w = 0; w < W; ++w) sum[r][w] = fma(ark, bk[w], sum[r][w]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < W; ++w) store(p.c + r * p.c_row + w * kLanes, sum[r][w]);
}

/// The tiles of R rows along `vectors` vectors.
template <int R, Start start, typename T>
void multiply_row_tile(TileProduct<T> p, int64_t vectors, int64_t depth) {
  constexpr int kWide = tile_vectors(R);
  if constexpr (kWide >= 4) {
    for (; vectors >= 4; vectors -= 4, p.skip_vectors(4)) multiply_tile<R, 4, start>(p, depth);
  }
  if constexpr (kWide >= 2) {
    for (; vectors >= 2; vectors -= 2, p.skip_vectors(2)) multiply_tile<R, 2, start>(p, depth);
  }
  for (; vectors >= 1; --vectors, p.skip_vectors(1)) multiply_tile<R, 1, start>(p, depth);
}

/// multiply_row_tile of a number of rows in [1, kTileRows].
template <Start start, typename T>
void multiply_rows(const TileProduct<T>& p, int64_t rows, int64_t vectors, int64_t depth) {
  switch (rows) {
    case 1:
      return multiply_row_tile<1, start>(p, vectors, depth);
    case 2:
      return multiply_row_tile<2, start>(p, vectors, depth);
    case 3:
      return multiply_row_tile<3, start>(p, vectors, depth);
    case 4:
      return multiply_row_tile<4, start>(p, vectors, depth);
    case 5:
      return multiply_row_tile<5, start>(p, vectors, depth);
    case 6:
      return multiply_row_tile<6, start>(p, vectors, depth);
#if defined(__AVX512F__)
    case 7:
      return multiply_row_tile<7, start>(p, vectors, depth);
    case 8:
      return multiply_row_tile<8, start>(p, vectors, depth);
#endif
  }
}

/// Rows [begin, end) are cut into parts of nearly equal size, each at most kTileRows.
struct RowParts {
  int64_t begin, end, parts;
  RowParts(int64_t b, int64_t e) : begin(b), end(e), parts((e - b + kTileRows - 1) / kTileRows) {}
  int64_t first(int64_t part) const { return begin + (end - begin) * part / parts; }
};

/// The product of any number of rows and `vectors` vectors of lanes.
template <Start start, typename T>
void multiply(const TileProduct<T>& p, int64_t rows, int64_t vectors, int64_t depth) {
  const RowParts parts(0, rows);
  for (int64_t v = 0; v < vectors; v += kSweepVectors) {
    const int64_t n = vectors - v < kSweepVectors ? vectors - v : kSweepVectors;
    for (int64_t i = 0; i < parts.parts; ++i) {
      const int64_t r = parts.first(i), count = parts.first(i + 1) - r;
      TileProduct<T> tile = p;
      tile.a += r * p.a_row;
      tile.b += v * kLanes;
      tile.c += r * p.c_row + v * kLanes;
      if constexpr (start == Start::kScaled) tile.factor += r;
      multiply_rows<start>(tile, count, n, depth);
    }
  }
}

/// Copies n elements as fp32; what lies behind them up to `padded` becomes zero.
template <typename T>
void copy_as_float(const T* x, int64_t n, int64_t padded, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  if (i < n) store_partial(y + i, load_partial(x + i, n - i), n - i);
  for (i = n; i < padded; ++i) y[i] = 0;
}

/// y[j * y_row + i] = x[i * kKvBlock + j] as fp32, for j in [0, 16 * vectors), i in [0, n). What
/// lies behind n up to a multiple of 16 becomes zero.
template <typename T>
void transpose_as_float(const T* x, int64_t n, int64_t vectors, float* y, int64_t y_row) {
  for (int64_t i = 0; i < n; i += kLanes)
    for (int64_t j = 0; j < vectors * kLanes; j += kLanes) {
      F32x16 square[kLanes];
      for (int64_t r = 0; r < kLanes; ++r)
        square[r] = i + r < n ? load(x + (i + r) * kKvBlock + j) : zero();
      transpose(square);
      for (int64_t r = 0; r < kLanes; ++r) store(y + (j + r) * y_row + i, square[r]);
    }
}

template <typename T>
void copy_from_float(const float* x, int64_t n, T* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  if (i < n) store_partial(y + i, load_partial(x + i, n - i), n - i);
}

/// Lanes [0, count) of x, `other` in the rest.
MOERL_INLINE F32x16 keep_lanes(F32x16 x, int64_t count, F32x16 other) {
  alignas(64) static constexpr float kIndex[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                   8, 9, 10, 11, 12, 13, 14, 15};
  return select_less(load(kIndex), set1(static_cast<float>(count)), x, other);
}

/// Runs body(worker) on the pool; workers share out what they do by draw().
class WorkQueue {
 public:
  explicit WorkQueue(int64_t count) : count_(count) {}
  /// The next piece of work, or -1.
  int64_t draw() {
    const int64_t i = __atomic_fetch_add(&next_, 1, __ATOMIC_RELAXED);
    return i < count_ ? i : -1;
  }

 private:
  int64_t next_ = 0;
  const int64_t count_;
};

}  // namespace
}  // namespace moerl::kernels
