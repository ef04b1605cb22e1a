#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace moerl::kernels {

/// A piece of a grouped product: rows [row_begin, row_end) of one group and a range of columns.
struct OutputBlock {
  int64_t group, row_begin, row_end, column_begin, column_end;
};

/// Cuts the output of a grouped product into blocks that together cover it once. Rows are cut at
/// multiples of 96 from the group's first row, columns at multiples of 32. The cut decides who
/// computes what and never what comes out: few rows are cut along the columns, many along the rows.
/// @param offsets  G + 1 ascending row numbers.
std::vector<OutputBlock> partition_product(std::span<const int64_t> offsets, int64_t depth,
                                           int64_t columns, int num_threads);

/// A run of tokens [begin, end) of one group; begin is a multiple of 32 from the group's first.
struct TokenRun {
  int64_t group, begin, end;
};

/// Columns of one task of wgrad, a multiple of kBlock: few enough that all threads have work on a
/// small weight, many enough that a packed operand is read seldom.
int64_t wgrad_column_unit(int64_t columns, int num_threads);

/// Cuts the tokens of a grouped wgrad into waves whose packed operands fit into the cache. Within a
/// wave and over the waves the tokens of a group ascend.
/// @param width  columns of both operands together.
std::vector<std::vector<TokenRun>> partition_tokens(std::span<const int64_t> offsets,
                                                    int64_t width);

}  // namespace moerl::kernels
