#pragma once
#include "kernels/exec_context.h"

namespace moerl::kernels {

/// hidden = silu(gate) * up, silu(a) = a / (1 + e^-a), in fp32, rounded once.
/// Source: Shazeer 2020 (arXiv:2002.05202), as in DeepSeek-V3's MLP.
/// @param gate_up [T, 2 I]: the gate's I columns, then the up projection's. bf16 or fp32.
/// @param hidden  out [T, I], type of gate_up.
void swiglu_forward(ExecContext& ctx, const Tensor& gate_up, Tensor& hidden);

/// With s = sigmoid(gate): d(gate) = dhidden * up * s * (1 + gate * (1 - s)), d(up) = dhidden *
/// gate * s. @param dgate_up out [T, 2 I], overwritten.
void swiglu_backward(ExecContext& ctx, const Tensor& dhidden, const Tensor& gate_up,
                     Tensor& dgate_up);

}  // namespace moerl::kernels
