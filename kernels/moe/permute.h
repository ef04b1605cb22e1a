#pragma once
#include <cstdint>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Rows sorted by expert: row r serves slot_of_row[r] = t * K + k. Within an expert, tokens ascend.
struct ExpertRows {
  Tensor offsets;      ///< [E + 1] i64: expert e has rows [offsets[e], offsets[e + 1])
  Tensor slot_of_row;  ///< [T * K] i32
  Tensor row_of_slot;  ///< [T * K] i32
};
/// @param topk_idx [T, K] i32, each in [0, num_experts).
ExpertRows sort_by_expert(ExecContext& ctx, const Tensor& topk_idx, int64_t num_experts);

/// y[r, :] = x[token of row r, :]. @param x [T, D]. @param y out [T * K, D], type of x.
void expand_forward(ExecContext& ctx, const Tensor& x, const ExpertRows& rows, int64_t num_topk,
                    Tensor& y);
/// dx[t, :] = sum over slots k ascending of dy[row(t, k), :] in fp32, rounded once.
void expand_backward(ExecContext& ctx, const Tensor& dy, const ExpertRows& rows, int64_t num_topk,
                     Tensor& dx, Write write = Write::kOverwrite);

/// y[t, :] = shared[t, :] + sum_k weights[t, k] x[row(t, k), :]: a fused multiply-add chain in fp32
/// over slots ascending, starting from shared (or 0), rounded once.
/// @param x [T * K, D] of y's type. @param weights [T, K] fp32. @param shared [T, D] of y's type,
/// or null.
void reduce_forward(ExecContext& ctx, const Tensor& x, const Tensor& weights,
                    const ExpertRows& rows, const Tensor* shared, Tensor& y);
/// dx[row, :] = weights[t, k] dy[t, :];  dweights[t, k] = <dy[t, :], x[row, :]> (fp32).
/// Overwritten.
void reduce_backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& weights,
                     const ExpertRows& rows, Tensor& dx, Tensor& dweights);

}  // namespace moerl::kernels
