#pragma once
#include <vector>

#include "kernels/list.h"

namespace moerl::kernels {

/// How the frequencies are changed for contexts beyond the one trained on; each is fixed, whatever
/// the length of the sequence.
enum class RopeScalingType {
  kNone,
  kLinear,  ///< all of them divided by `factor` (arXiv:2306.15595)
  kYarn,    ///< by parts, and an amplitude (arXiv:2309.00071)
  kLlama3,  ///< by wavelength, as Llama 3.1 does
};

/// Rotary embedding; spelled as in Hugging Face's rope_scaling.
struct RopeConfig {
  int64_t dim = 64;  ///< rotated dimensions; even
  double theta = 10000;
  RopeScalingType type = RopeScalingType::kNone;
  double factor = 1;
  double beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0;  ///< kYarn
  double attention_factor = 0;  ///< kYarn: the amplitude; 0: derived from mscale and mscale_all_dim
  double low_freq_factor = 1, high_freq_factor = 4;  ///< kLlama3
  int64_t original_max_position_embeddings = 4096;   ///< kYarn, kLlama3
};

/// Which dimensions turn together: (2j, 2j + 1), as in DeepSeek's checkpoints, or (j, j + dim / 2),
/// as in Llama's and Qwen's Hugging Face checkpoints.
enum class RopePairing { kInterleaved, kHalves };

/// Inverse frequencies f_j = theta^(-2j / dim), [dim / 2], scaled. Computed in fp64.
/// kLlama3, with n = original_max_position_embeddings f_j / 2 pi turns in the original context: f
/// where n > high_freq_factor, f / factor where n < low_freq_factor, linear in n between them.
std::vector<double> rope_inverse_frequencies(const RopeConfig& config);

/// What the softmax scale is multiplied with: (0.1 mscale_all_dim ln(factor) + 1)^2 under YaRN,
/// else 1.
double rope_softmax_scale(const RopeConfig& config);

/// Cosines and sines [max_positions, dim] fp32, (cos_0, sin_0, cos_1, sin_1, …) for each position,
/// under YaRN multiplied by the amplitude: attention_factor, or else get_mscale(factor, mscale) /
/// get_mscale(factor, mscale_all_dim).
Tensor rope_table(const RopeConfig& config, int64_t max_positions);

/// Rotates, in place, the pairs (a, b) of columns [first, first + dim) of every head:
///   a' = a cos_j - b sin_j,  b' = a sin_j + b cos_j,   each product and sum in fp32,
/// the result rounded to x's type.
/// @param x [T, H, W], bf16 or fp32. @param positions [T], below the table's length.
void rope_forward(ExecContext& ctx, const Tensor& table, const List<int32_t>& positions,
                  RopePairing pairing, int64_t first, Tensor& x);
/// The transposed rotation (same amplitude): the gradient of rope_forward, in place on dx.
void rope_backward(ExecContext& ctx, const Tensor& table, const List<int32_t>& positions,
                   RopePairing pairing, int64_t first, Tensor& dx);

}  // namespace moerl::kernels
