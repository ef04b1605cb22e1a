#pragma once
#include <functional>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// dst += src, element by element, rounded once; types agree. The residual add of a gradient.
/// @throws std::invalid_argument if shapes or types disagree.
void add_inplace(ExecContext& ctx, const Tensor& src, Tensor& dst);

/// dst = src converted (bf16 <-> fp32, or a copy), same number of elements. bf16 is rounded to
/// nearest, ties to even.
void cast(ExecContext& ctx, const Tensor& src, Tensor& dst);

/// Writes rows [begin, end) of a matrix [N, K] to out [end - begin, K], in fp32 or, rounded to
/// nearest even, in bf16. Called from several threads at once, on the host.
using ReadRows = std::function<void(int64_t begin, int64_t end, DType dtype, void* out)>;

/// dst = the matrix that `read` gives. Every row is read once.
/// @param dst  [N, K], fp32 or bf16, on any device.
void fill_rows(ExecContext& ctx, const ReadRows& read, Tensor& dst);

}  // namespace moerl::kernels
