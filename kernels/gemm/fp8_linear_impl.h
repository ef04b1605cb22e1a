#pragma once
#include <bit>

#include "kernels/gemm/linear_impl.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels {

/// The scale of a tile. @param largest  the largest bits of |x|: those of a NaN, if there is one.
constexpr float fp8_scale(uint32_t largest) {
  const float magnitude = std::bit_cast<float>(largest);
  return magnitude < 0x1p-100f ? 1.0f : magnitude / kLargestE4m3;
}

constexpr int64_t num_fp8_blocks(int64_t extent) { return divide_up(extent, kFp8Block); }
/// Bytes from a row of codes to the next one.
constexpr int64_t fp8_pitch(int64_t columns) { return round_up(columns, 16); }

struct Fp8Quantize {
  bool is_bf16, is_weight;
  int64_t rows, columns;
  const void* x;
  void* codes;  ///< [rows, fp8_pitch(columns)]
  float* scales;
  /// The same of the transposed weight, [columns, fp8_pitch(rows)]; null unless wanted.
  void* transposed;
  float* transposed_scales;
};
struct Fp8Product {
  int64_t rows, columns, depth;
  const void* x;  ///< codes
  const float* x_scales;
  const void* weight;  ///< codes; null with groups
  const float* weight_scales;
  bool y_is_bf16, accumulate;
  void* y;
  LinearGroups groups;  ///< its weights: [count] of codes, then [count] of scales
};

template <Isa isa>
struct Fp8LinearCpu {
  /// Rows [128 index, 128 index + 128).
  static void quantize(const Fp8Quantize& args, int64_t index);
  /// Columns [128 index, 128 index + 128) of y, without groups.
  static void product(const Fp8Product& args, int64_t index);
};

struct Fp8LinearCuda {
  void (*quantize)(const Fp8Quantize& args);
  void (*product)(const Fp8Product& args);
};

}  // namespace moerl::kernels
