#pragma once
#include "kernels/list.h"

namespace moerl::kernels {

/// y[i, :] = x[rows[i], :].
/// @param x [T, D]. @param rows [R], each in [0, T). @param y out [R, D], type of x.
/// @throws std::invalid_argument if a shape, type or row is wrong.
void gather_rows(ExecContext& ctx, const Tensor& x, const List<int32_t>& rows, Tensor& y);

/// dx[rows[i], :] = dy[i, :], and 0 in all other rows. No row is named twice.
/// @param dy [R, D]. @param dx out [T, D], type of dy.
void scatter_rows(ExecContext& ctx, const Tensor& dy, const List<int32_t>& rows, Tensor& dx);

}  // namespace moerl::kernels
