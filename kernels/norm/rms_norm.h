#pragma once
#include "kernels/exec_context.h"
#include "kernels/norm/elementwise.h"

namespace moerl::kernels {

/// Root-mean-square normalisation over the last axis.
///
///   y[t, d] = x[t, d] * rstd[t] * weight[d],   rstd[t] = 1 / sqrt(mean_d(x[t, d]^2) + eps)
///
/// Source: Zhang & Sennrich 2019 (arXiv:1910.07467); eps is inside the root, as in DeepSeek-V3. All
/// arithmetic in fp32, y rounded once. Sums over d run in the order of sum_row
/// (kernels/cpu/lanes.h): a row's bits depend on that row alone.
///
/// @param x       [T, D], bf16 or fp32. T may be 0. @param weight [D] fp32. @param eps > 0.
/// @param y       out [T, D], type of x, overwritten; may be x.
/// @param rstd    out [T] fp32, overwritten; null in inference.
/// @throws std::invalid_argument if a shape or type disagrees.
void rms_norm_forward(ExecContext& ctx, const Tensor& x, const Tensor& weight, float eps, Tensor& y,
                      Tensor* rstd);

/// As rms_norm_forward of x = residual + delta, and writes that sum back to `residual` (rounded to
/// its type before it is normalised): the residual add fused into the norm that follows it.
void add_rms_norm_forward(ExecContext& ctx, Tensor& residual, const Tensor& delta,
                          const Tensor& weight, float eps, Tensor& y, Tensor* rstd);

/// Gradient of rms_norm_forward. With g = dy * weight and n = x * rstd:
///
///   dx       = rstd * (g - n * mean_d(g * n))     overwritten or accumulated (rounded once)
///   dweight += sum_t(dy * n)                      accumulated, fp32, tokens in a fixed order:
///                                                 ascending in blocks of 64, blocks ascending
/// @param dx [T, D], type of x. @param dweight [D] fp32.
void rms_norm_backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, Tensor& dx, Tensor& dweight,
                       Write write = Write::kOverwrite);

}  // namespace moerl::kernels
