#pragma once
#include "kernels/exec_context.h"

namespace moerl::kernels {

/// dst += src, element by element, rounded once; types agree. The residual add of a gradient.
/// @throws std::invalid_argument if shapes or types disagree.
void add_inplace(ExecContext& ctx, const Tensor& src, Tensor& dst);

/// dst = src converted (bf16 <-> fp32, or a copy), same number of elements. bf16 is rounded to
/// nearest, ties to even.
void cast(ExecContext& ctx, const Tensor& src, Tensor& dst);

}  // namespace moerl::kernels
