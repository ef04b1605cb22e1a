#pragma once
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/quant/decode_ref.h"
#include "kernels/quant/fp8_block_ref.h"

namespace moerl::kernels::ref {

/// Codes and scales of a matrix [rows, columns] (DeepSeek-V3 report, 3.3.2).
struct Fp8Codes {
  size_t rows, columns, tile_rows;  // tile_rows: 1 for activations, 128 for weights
  std::vector<uint8_t> codes;
  std::vector<double> scales;

  size_t column_tiles() const { return (columns + 127) / 128; }
  double scale(size_t row, size_t tile) const {
    return scales[row / tile_rows * column_tiles() + tile];
  }
  double code(size_t row, size_t column) const {
    return small_float(codes[row * columns + column], 4, 3, false);
  }
};

/// Scales of max |x| / 448, rounded to fp32 as the format stores them, and the nearest codes.
inline Fp8Codes quantize_fp8(const std::vector<double>& x, size_t rows, size_t columns,
                             size_t tile_rows) {
  Fp8Codes q{rows, columns, tile_rows, std::vector<uint8_t>(x.size()), {}};
  q.scales.resize((rows + tile_rows - 1) / tile_rows * q.column_tiles());
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c) {
      double& largest = q.scales[r / tile_rows * q.column_tiles() + c / 128];
      largest = std::fmax(largest, std::fabs(x[r * columns + c]));
    }
  for (double& scale : q.scales)
    scale = scale < 0x1p-100 ? 1 : static_cast<double>(static_cast<float>(scale / 448));
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c)
      q.codes[r * columns + c] = nearest_e4m3(
          static_cast<double>(static_cast<float>(x[r * columns + c] / q.scale(r, c / 128))));
  return q;
}

struct Fp8Result {
  std::vector<double> y, magnitude;  // magnitude: the sums of the absolute terms
};
/// y[t, n] = sum_b sx sw sum_{k in block b} x[t, k] w[n, k].
inline Fp8Result fp8_product(const Fp8Codes& x, const Fp8Codes& w) {
  Fp8Result out{std::vector<double>(x.rows * w.rows), std::vector<double>(x.rows * w.rows)};
  for (size_t t = 0; t < x.rows; ++t)
    for (size_t n = 0; n < w.rows; ++n)
      for (size_t k = 0; k < x.columns; ++k) {
        const double term = x.scale(t, k / 128) * w.scale(n, k / 128) * x.code(t, k) * w.code(n, k);
        out.y[t * w.rows + n] += term;
        out.magnitude[t * w.rows + n] += std::fabs(term);
      }
  return out;
}

}  // namespace moerl::kernels::ref
