#pragma once
#include "kernels/gemm/fp8_linear.h"

namespace moerl::kernels {

/// The scale of a tile. @param largest  the largest bits of |x|: those of a NaN, if there is one.
constexpr float fp8_scale(uint32_t largest) {
  const float magnitude = std::bit_cast<float>(largest);
  return magnitude < 0x1p-100f ? 1.0f : magnitude / kLargestE4m3;
}

constexpr int64_t num_fp8_blocks(int64_t extent) { return (extent + kFp8Block - 1) / kFp8Block; }

struct Fp8Quantize {
  bool is_bf16, is_weight;
  int64_t rows, columns;
  const void* x;
  void* codes;
  float* scales;
};
struct Fp8Product {
  int64_t rows, columns, depth;
  const void *x, *weight;  ///< codes
  const float *x_scales, *weight_scales;
  bool y_is_bf16;
  void* y;
};

template <Isa isa>
struct Fp8LinearCpu {
  /// Rows [128 index, 128 index + 128).
  static void quantize(const Fp8Quantize& args, int64_t index);
  /// Columns [128 index, 128 index + 128) of y.
  static void forward(const Fp8Product& args, int64_t index);
};

struct Fp8LinearCuda {
  void (*quantize)(const Fp8Quantize& args);
  void (*forward)(const Fp8Product& args);
};

}  // namespace moerl::kernels
