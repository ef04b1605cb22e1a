// Blocking of the products around the micro kernels.
#include "kernels/cpu/dispatch.h"
#include "kernels/gemm/linear_impl.h"
#include "kernels/gemm/linear_micro_kernel.h"
#include "kernels/gemm/linear_pack.h"

namespace moerl::kernels {
namespace {

/// Bytes of the image that stay in the L2 cache while the rows pass by.
constexpr int64_t kImageBytes = 256 << 10;
/// Rows of a block of wgrad: those of a product, or less where 12 is no multiple of it.
template <typename T>
constexpr int64_t kMaxWgradRows = kTransposedRows % kMaxRows<T> == 0 ? kMaxRows<T> : 6;
/// Tokens that a wgrad micro kernel takes at a time: its panel stays in the L1 cache.
constexpr int64_t kTokensAtOnce = 256;

/// fp32 rows are read where they lie.
MOERL_INLINE Left left_rows(const float* x, int64_t, int64_t depth, int64_t, float*) {
  return {x, depth, 1};
}
/// bf16 rows are widened once for all columns, zeros behind them.
MOERL_INLINE Left left_rows(const bf16* x, int64_t rows, int64_t depth, int64_t padded,
                            float* scratch) {
  const int64_t stride = padded + 16;  // rows of 4 KiB would share one cache set
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < padded; k += kLanes)
      copy_lanes(x + r * depth + k, depth - k, scratch + r * stride + k);
  return {scratch, stride, 1};
}

template <int R, int P, typename T>
MOERL_INLINE void product_tile(const ProductTask& task, Left left, int64_t depth, int64_t row,
                               int64_t panel) {
  const T* b[P];
  for (int p = 0; p < P; ++p) b[p] = panel_of(static_cast<const T*>(task.image), depth, panel + p);
  F32x16 sum[R][P];
  set_zero(sum);
  add_products(left, b, depth, sum);
  const auto write_all = [&](auto* y) {
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) {
        const int64_t column = (panel + p) * kPanelColumns;
        write(y + (row + r) * task.columns + column, sum[r][p], task.columns - column,
              task.accumulate);
      }
  };
  if (task.y_dtype == DType::kF32) {
    write_all(static_cast<float*>(task.y));
  } else {
    write_all(static_cast<bf16*>(task.y));
  }
}

/// R rows against panels [begin, end).
template <int R, typename T>
void product_rows(const ProductTask& task, Left left, int64_t depth, int64_t row, int64_t begin,
                  int64_t end) {
  constexpr int P = panels_at_once<T, R>();
  int64_t panel = begin;
  for (; panel + P <= end; panel += P) product_tile<R, P, T>(task, left, depth, row, panel);
  if constexpr (P > 1)
    for (; panel < end; ++panel) product_tile<R, 1, T>(task, left, depth, row, panel);
}

template <typename T>
void run_product(const ProductTask& task, float* scratch) {
  const int64_t depth = sizeof(T) == 2 ? round_up(task.depth, kBlock) : task.depth;
  const int64_t panel_bytes = depth * kPanelColumns * static_cast<int64_t>(sizeof(T));
  const int64_t fitting = panel_bytes == 0 ? 1 : kImageBytes / panel_bytes / 4 * 4;
  const int64_t step = fitting < 4 ? 4 : fitting;
  const int64_t panel_end = divide_up(task.column_end, kPanelColumns);
  for (int64_t panel = task.column_begin / kPanelColumns; panel < panel_end; panel += step) {
    const int64_t stop = smaller(panel_end, panel + step);
    for (int64_t row = 0; row < task.rows; row += kMaxRows<T>) {
      const int64_t rows = smaller(kMaxRows<T>, task.rows - row);
      const Left left = left_rows(static_cast<const T*>(task.x) + row * task.depth, rows,
                                  task.depth, depth, scratch);
      with_rows<kMaxRows<T>>(
          rows, [&]<int R>() { product_rows<R, T>(task, left, depth, row, panel, stop); });
    }
  }
}

template <int R, int P, typename T>
MOERL_INLINE void wgrad_tile(const WgradTask& task, Left left, const T* const (&b)[P],
                             int64_t depth, int64_t row, int64_t panel) {
  F32x16 sum[R][P];
  for (int p = 0; p < P; ++p) {
    const int64_t column = (panel + p) * kPanelColumns, width = task.columns - column;
    for (int r = 0; r < R; ++r) {
      const float* from = task.dweight + (row + r) * task.columns + column;
      sum[r][p] = width >= kPanelColumns ? load(from) : load_partial(from, width);
    }
  }
  add_products(left, b, depth, sum);
  for (int p = 0; p < P; ++p) {
    const int64_t column = (panel + p) * kPanelColumns;
    for (int r = 0; r < R; ++r)
      write(task.dweight + (row + r) * task.columns + column, sum[r][p], task.columns - column,
            false);
  }
}

/// R rows of dweight against its panels, for `depth` tokens from `token` on.
template <int R, typename T>
void wgrad_rows(const WgradTask& task, Left left, int64_t tokens, int64_t token, int64_t depth,
                int64_t row) {
  constexpr int P = panels_at_once<T, R>();
  const T* image = static_cast<const T*>(task.image);
  const int64_t skip = token * (sizeof(T) == 2 ? kBlock : kPanelColumns);
  int64_t panel = task.column_begin / kPanelColumns;
  const int64_t end = divide_up(task.column_end, kPanelColumns);
  const auto tile = [&]<int Q>() {
    const T* b[Q];
    for (int p = 0; p < Q; ++p) b[p] = panel_of(image, tokens, panel + p) + skip;
    wgrad_tile<R, Q, T>(task, left, b, depth, row, panel);
  };
  for (; panel + P <= end; panel += P) tile.template operator()<P>();
  if constexpr (P > 1)
    for (; panel < end; ++panel) tile.template operator()<1>();
}

template <typename T>
void run_wgrad(const WgradTask& task) {
  const int64_t tokens = sizeof(T) == 2 ? round_up(task.tokens, kBlock) : task.tokens;
  for (int64_t token = 0; token < tokens; token += kTokensAtOnce) {
    const int64_t depth = smaller(kTokensAtOnce, tokens - token);
    for (int64_t row = task.row_begin; row < task.row_end; row += kMaxWgradRows<T>) {
      const float* block = static_cast<const float*>(task.transposed) +
                           row / kTransposedRows * tokens * kTransposedRows;
      const Left left = {block + token * kTransposedRows + row % kTransposedRows, 1,
                         kTransposedRows};
      with_rows<kMaxWgradRows<T>>(smaller(kMaxWgradRows<T>, task.row_end - row), [&]<int R>() {
        wgrad_rows<R, T>(task, left, tokens, token, depth, row);
      });
    }
  }
}

/// Source columns [begin, end), at most 12, as [depth][12], zeros down to the padded depth.
template <typename T>
void pack_transposed_block(const PackSource& source, int64_t padded, int64_t column, float* to) {
  const int64_t width = source.columns - column;
  const T* from = static_cast<const T*>(source.data) + column;
  for (int64_t t = 0; t < padded; ++t, to += kTransposedRows) {
    const int64_t valid = t < source.rows ? width : 0;
    float lanes[kLanes];
    copy_lanes(from + (valid > 0 ? t * source.columns : 0), valid, lanes);
    std::memcpy(to, lanes, kTransposedRows * sizeof(float));
  }
}

template <typename From>
MOERL_INLINE void pack_rows_bf16(const PackSource& source, int64_t block, bf16* image) {
  const From* from = static_cast<const From*>(source.data);
  const int64_t depth = source.columns;
  bf16* to = image + block * round_up(depth, kBlock) * kBlock;
  for (int64_t k = 0; k < depth; k += kBlock)
    for (int64_t half = 0; half < 2; ++half, to += kTileElements) {
      const int64_t row = block * kBlock + half * 16, rows = source.rows - row;
      pack_tile_rows(from + (rows > 0 ? row * depth + k : 0), rows, depth, depth - k, to);
    }
}

template <typename From>
MOERL_INLINE void pack_columns_bf16(const PackSource& source, int64_t block, bf16* image) {
  const From* from = static_cast<const From*>(source.data);
  bf16* to = image + block * round_up(source.rows, kBlock) * kBlock;
  for (int64_t k = 0; k < source.rows; k += kBlock)
    for (int64_t half = 0; half < 2; ++half, to += kTileElements) {
      const int64_t column = block * kBlock + half * 16;
      pack_tile_columns(from + k * source.columns + column, source.rows - k, source.columns,
                        source.columns - column, to);
    }
}

}  // namespace

template <>
void LinearCpu<kIsa>::pack_rows(const PackSource& source, DType dtype, int64_t block, void* image) {
  if (dtype == DType::kBF16) {
    if (source.dtype == DType::kBF16)
      return pack_rows_bf16<bf16>(source, block, static_cast<bf16*>(image));
    return pack_rows_bf16<float>(source, block, static_cast<bf16*>(image));
  }
  const float* from = static_cast<const float*>(source.data);
  for (int64_t row = block * kBlock; row < smaller(source.rows, block * kBlock + kBlock); row += 16)
    pack_panel_rows(from + row * source.columns, source.rows - row, source.columns, source.columns,
                    static_cast<float*>(image) + row * source.columns);
}

template <>
void LinearCpu<kIsa>::pack_columns(const PackSource& source, DType dtype, int64_t block,
                                   void* image) {
  if (dtype == DType::kBF16) {
    if (source.dtype == DType::kBF16)
      return pack_columns_bf16<bf16>(source, block, static_cast<bf16*>(image));
    return pack_columns_bf16<float>(source, block, static_cast<bf16*>(image));
  }
  const float* from = static_cast<const float*>(source.data);
  const int64_t end = smaller(source.columns, block * kBlock + kBlock);
  for (int64_t column = block * kBlock; column < end; column += kPanelColumns) {
    float* to = static_cast<float*>(image) + column * source.rows;
    for (int64_t k = 0; k < source.rows; ++k)
      copy_lanes(from + k * source.columns + column, source.columns - column, to + k * 16);
  }
}

template <>
void LinearCpu<kIsa>::pack_transposed(const PackSource& source, int64_t begin, int64_t end,
                                      void* out) {
  const bool is_bf16 = source.dtype == DType::kBF16;
  const int64_t padded = is_bf16 ? round_up(source.rows, kBlock) : source.rows;
  for (int64_t column = begin; column < end; column += kTransposedRows) {
    float* to = static_cast<float*>(out) + column * padded;
    if (is_bf16) {
      pack_transposed_block<bf16>(source, padded, column, to);
    } else {
      pack_transposed_block<float>(source, padded, column, to);
    }
  }
}

template <>
void LinearCpu<kIsa>::product(const ProductTask& task, float* scratch) {
  if (task.dtype == DType::kBF16) return run_product<bf16>(task, scratch);
  run_product<float>(task, scratch);
}

template <>
void LinearCpu<kIsa>::wgrad(const WgradTask& task) {
  if (task.dtype == DType::kBF16) return run_wgrad<bf16>(task);
  run_wgrad<float>(task);
}

}  // namespace moerl::kernels
