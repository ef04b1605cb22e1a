#pragma once
#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Where the runs (t, h) of a matrix of T tokens and H heads begin, in elements: offset + t *
/// token_stride + h * head_stride. A head stride of 0 gives every head the same run.
struct HeadRuns {
  int64_t offset = 0, token_stride = 0, head_stride = 0;
};

/// Number and length of the runs that a copy moves.
struct RunExtent {
  int64_t num_tokens = 0, num_heads = 0, width = 0;
};

/// dst's run (t, h) = src's run (t, h), for all of the extent. Types agree; memory does not
/// overlap.
/// @throws std::invalid_argument if a run lies outside its tensor.
void copy_runs(ExecContext& ctx, const RunExtent& extent, const Tensor& src, const HeadRuns& from,
               Tensor& dst, const HeadRuns& to);

/// dst[t, :] = sum over h, ascending, of src's run (t, h), in fp32, rounded once: the gradient of a
/// run that every head shares. @param dst [T, width], type of src.
void sum_head_runs(ExecContext& ctx, const RunExtent& extent, const Tensor& src,
                   const HeadRuns& from, Tensor& dst);

}  // namespace moerl::kernels
