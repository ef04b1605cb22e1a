#pragma once
#include "kernels/exec_context.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels {

// Products in FP8 as in the DeepSeek-V3 report, section 3.3: E4M3 codes with fp32 scales,
// activations in tiles of 1 x 128, weights in blocks of 128 x 128, sums promoted to fp32 every 128
// of the depth. On kCuda they need a device of sm_89 or newer.

/// A matrix [R, C] of codes times scales.
struct Fp8Matrix {
  int64_t rows = 0, columns = 0;
  Tensor codes;   ///< i32 [R, C / 4]: four E4M3 codes in a word, the first in its lowest byte
  Tensor scales;  ///< f32 [R, ceil(C / 128)] of an activation, [ceil(R / 128), ceil(C / 128)] of a
                  ///< weight
};

/// A tile's scale is max |x| / 448, or 1 where that maximum is below 2^-100 (such a tile becomes
/// zeros); a code is e4m3(x / scale), nearest, ties to even. A tile with an infinity or a NaN
/// becomes one with NaNs.
/// @param x  [T, C] fp32 or bf16, C a multiple of 16.
Fp8Matrix quantize_fp8_activation(ExecContext& ctx, const Tensor& x);
/// The same in blocks of 128 x 128. @param weight  [R, C].
Fp8Matrix quantize_fp8_weight(ExecContext& ctx, const Tensor& weight);

/// y[t, n] = sum_b sx[t, b] sw[n / 128, b] sum_{k in block b} x[t, k] w[n, k] over blocks of 128.
///
/// Numeric specification, all fp32: p = the sum of a block, one chain of fused multiply-adds, k
/// ascending, from +0; y = fma(p, sx sw, y), blocks ascending, from +0; y rounded once. On kCuda p
/// is summed by tensor cores (k ascending in steps of 32). A row's bits depend on that row and the
/// weight only.
/// @param x  an activation [T, K].  @param weight  [N, K].  @param y  out [T, N] fp32 or bf16.
/// @throws std::invalid_argument if a shape disagrees.
void fp8_linear_forward(ExecContext& ctx, const Fp8Matrix& x, const Fp8Matrix& weight, Tensor& y);

}  // namespace moerl::kernels
