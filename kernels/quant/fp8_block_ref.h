#pragma once
#include <cstdint>
#include <vector>

#include "kernels/quant/decode_ref.h"

namespace moerl::kernels::ref {

/// weight[r, c] = e4m3(codes[r, c]) * scales[r / 128, c / 128] (DeepSeek-V3, README_WEIGHTS.md).
inline std::vector<double> dequantize_fp8(const std::vector<uint8_t>& codes,
                                          const std::vector<double>& scales, int64_t rows,
                                          int64_t columns) {
  const int64_t column_blocks = (columns + 127) / 128;
  std::vector<double> weight;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      weight.push_back(small_float(codes[static_cast<size_t>(r * columns + c)], 4, 3, false) *
                       scales[static_cast<size_t>(r / 128 * column_blocks + c / 128)]);
  return weight;
}

/// The code whose value is nearest; of two as near, the one with an even mantissa. |value| <= 448.
inline uint8_t nearest_e4m3(double value) {
  uint8_t best = 0;
  double best_distance = 1e300;
  for (int code = 0; code < 127; ++code) {
    const double distance = std::fabs(std::fabs(value) - small_float(code, 4, 3, false));
    if (distance < best_distance || (distance == best_distance && code % 2 == 0)) {
      best = static_cast<uint8_t>(code);
      best_distance = distance;
    }
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

}  // namespace moerl::kernels::ref
