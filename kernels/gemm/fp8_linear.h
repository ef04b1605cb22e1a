#pragma once
#include "kernels/gemm/linear.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels {

// The products of linear.h in FP8, as in the DeepSeek-V3 report, section 3.3: E4M3 codes with fp32
// scales, activations (and their gradients) in tiles of 1 x 128, weights in blocks of 128 x 128,
// sums promoted to fp32 every 128 of the depth. linear_forward, linear_dgrad and the grouped ones
// come here for a weight that was packed so; linear_wgrad stays with the working type, since tiles
// along the tokens would let a gradient depend on where micro-batches are cut. On kCuda they need a
// device of sm_89 or newer.
//
// A row of codes is padded with zeros to a multiple of sixteen.

/// Codes and scales of an activation [T, C].
struct Fp8Activation {
  int64_t rows = 0, columns = 0;
  Tensor codes;   ///< i32 [T, 4 ceil(C / 16)]: four codes in a word, the first in its lowest byte
  Tensor scales;  ///< f32 [T, ceil(C / 128)]
};

/// A tile's scale is max |x| / 448, or 1 where that maximum is below 2^-100 (such a tile becomes
/// zeros); a code is e4m3(x / scale), nearest, ties to even. A tile with an infinity or a NaN
/// becomes one with NaNs.
/// @param x  [T, C] fp32 or bf16.
Fp8Activation quantize_fp8_activation(ExecContext& ctx, const Tensor& x);

/// The same in blocks of 128 x 128 of the fp32 master W [N, K]: packed.forward are codes [N, K]
/// with scales [ceil(N / 128), ceil(K / 128)], packed.dgrad and its scales are the transposes.
void pack_fp8_weight(ExecContext& ctx, const Tensor& master, bool with_dgrad, PackedWeight& packed);

/// y[t, n] = sum_b sx[t, b] sw[n / 128, b] sum_{k in block b} x[t, k] w[n, k] over blocks of 128,
/// with x quantised first and w the image for `product`, by row groups.
///
/// Numeric specification, all fp32: p = the sum of a block, one chain of fused multiply-adds, k
/// ascending, from +0; y = fma(p, sx sw, y), blocks ascending, from +0; y rounded once, after it
/// was added to what is there if kAccumulate. On kCuda p is summed by tensor cores (k ascending in
/// steps of 32). A row's bits depend on that row and the weight only.
/// REQUIRES: what linear.h asks of the arguments; the weights are packed in FP8.
void fp8_products(ExecContext& ctx, Product product, const Tensor& x, const GroupOffsets& offsets,
                  const WeightList& weights, Tensor& y, Write write);

}  // namespace moerl::kernels
