#pragma once
#include <span>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Rotary embedding with YaRN interpolation; spelled as in Hugging Face's rope_scaling.
struct RopeConfig {
  int64_t dim = 64;  ///< rotated dimensions; even
  double theta = 10000;
  bool yarn = false;
  double factor = 1, beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0;
  int64_t original_max_position_embeddings = 4096;
};

/// Inverse frequencies [dim / 2] (YaRN: NTK-by-parts, arXiv:2309.00071). Computed in fp64.
std::vector<double> rope_inverse_frequencies(const RopeConfig& config);

/// What the softmax scale is multiplied with: (0.1 mscale_all_dim ln(factor) + 1)^2 under YaRN,
/// else 1.
double rope_softmax_scale(const RopeConfig& config);

/// Cosines and sines [max_positions, dim] fp32, (cos_0, sin_0, cos_1, sin_1, …) for each position,
/// multiplied by the amplitude get_mscale(factor, mscale) / get_mscale(factor, mscale_all_dim).
Tensor rope_table(const RopeConfig& config, int64_t max_positions);

/// Rotates, in place, the interleaved pairs (2j, 2j + 1) of columns [first, first + dim) of every
/// head:
///   y[2j] = x[2j] cos - x[2j+1] sin,  y[2j+1] = x[2j] sin + x[2j+1] cos.   each product and sum in
///   fp32,
/// the result rounded to x's type.
/// @param x [T, H, W], bf16 or fp32. @param positions [T], below the table's length.
void rope_forward(ExecContext& ctx, const Tensor& table, std::span<const int32_t> positions,
                  int64_t first, Tensor& x);
/// The transposed rotation (same amplitude): the gradient of rope_forward, in place on dx.
void rope_backward(ExecContext& ctx, const Tensor& table, std::span<const int32_t> positions,
                   int64_t first, Tensor& dx);

}  // namespace moerl::kernels
