#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Runs body(begin, end) on the context's team for blocks of rows that together cover [0, rows).
/// Block sizes follow the work of a row, never the number of threads. For rows that are independent
/// of each other, or reductions whose blocks are these.
template <typename Body>
void parallel_rows(ExecContext& ctx, int64_t rows, int64_t rows_per_block, const Body& body) {
  ctx.pool().parallel_for((rows + rows_per_block - 1) / rows_per_block, [&](int64_t block) {
    body(block * rows_per_block, std::min(rows, (block + 1) * rows_per_block));
  });
}

/// Rows that make one thread's turn long enough to be worth its hand-over: about 16 Ki elements.
inline int64_t rows_per_turn(int64_t elements_per_row) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements_per_row));
}

}  // namespace moerl::kernels
