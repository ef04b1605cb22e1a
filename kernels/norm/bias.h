#pragma once
#include "kernels/exec_context.h"

namespace moerl::kernels {

/// y[t, n] = x[t, n] + bias[n]: one fp32 addition to the unrounded product, rounded once to y's
/// type.
/// @param x [T, N] fp32. @param bias [N] fp32. @param y out [T, N], bf16 or fp32; may be x.
/// @throws std::invalid_argument if a shape or type disagrees.
void bias_forward(ExecContext& ctx, const Tensor& x, const Tensor& bias, Tensor& y);

/// dbias[n] += sum_t dy[t, n]: for each n one fp32 chain over t ascending that starts from what
/// dbias holds, so that two calls equal one call on the tokens of both, bit for bit.
/// @param dy [T, N], bf16 or fp32. @param dbias [N] fp32.
void bias_backward(ExecContext& ctx, const Tensor& dy, Tensor& dbias);

}  // namespace moerl::kernels
