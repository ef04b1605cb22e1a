#pragma once
#include <cstdint>

#include "kernels/list.h"

namespace moerl::kernels {

/// y[t, :] = table[ids[t], :], converted to y's type.
/// @param table [V, D] fp32 (the master), or of y's type: the same bits if it is the rounded
/// master.
/// @param y out [T, D] bf16 or fp32.
/// @throws std::invalid_argument if an id is outside [0, V).
void embedding_forward(ExecContext& ctx, const Tensor& table, const List<int32_t>& ids, Tensor& y);

/// dtable[ids[t], :] += dy[t, :], tokens ascending for each row: the same bits at any thread count.
/// @param dtable [V, D] fp32, accumulated.
void embedding_backward(ExecContext& ctx, const Tensor& dy, const List<int32_t>& ids,
                        Tensor& dtable);

}  // namespace moerl::kernels
