#pragma once
// What linear.cc asks of the instruction levels. Plain pointers only: the files that implement it
// are compiled for machines that the rest of the program may not run on.
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// Columns of a panel, the unit of the fp32 image [columns / 16][depth][16].
inline constexpr int64_t kPanelColumns = 16;
/// Depth of a block, and columns of a pair of panels, of the bf16 image
/// [columns / 32][depth / 32][2 panels][16 pairs][16 columns][2], the tile format of AMX.
inline constexpr int64_t kBlock = 32;
/// Elements of one panel in one block of the bf16 image.
inline constexpr int64_t kTileElements = 512;
/// Rows of a block of the transposed left operand [rows / 12][depth][12] of wgrad.
inline constexpr int64_t kTransposedRows = 12;
/// Rows that no kernel's row block straddles; where products are cut into tasks.
inline constexpr int64_t kRowUnit = 96;

constexpr int64_t divide_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return divide_up(n, unit) * unit; }

/// Columns [column_begin, column_end) of y = x B for some rows of x; B is an image.
struct ProductTask {
  DType dtype;    ///< of x and the image
  const void* x;  ///< [rows, depth]
  const void* image;
  void* y;  ///< [rows, columns]
  DType y_dtype;
  bool accumulate;  ///< y += instead of y =
  int64_t rows, depth, columns;
  int64_t column_begin, column_end;  ///< begin is a multiple of 32; end too, or all columns
};

/// Rows [row_begin, row_end) and columns [column_begin, column_end) of dweight += dy^T x for a run
/// of tokens, from the transposed dy and the image of x.
struct WgradTask {
  DType dtype;
  const void* transposed;  ///< of dy, by pack_transposed
  const void* image;       ///< of x, by pack_columns
  float* dweight;          ///< [rows, columns]
  int64_t rows, tokens, columns;
  int64_t row_begin, row_end;        ///< begin is a multiple of 96
  int64_t column_begin, column_end;  ///< begin is a multiple of 32
};

/// A row-major matrix to be packed.
struct PackSource {
  const void* data;
  DType dtype;
  int64_t rows, columns;
};

/// fp32 elements of scratch memory that one task may use: 12 widened rows, or for AMX 32 repacked
/// rows of depth 512 and 32 rows of sums over at most 2048 columns.
constexpr int64_t task_scratch(int64_t depth) {
  return 12 * (round_up(depth, kBlock) + 16) + 32 * 256 + 32 * (2048 + 16);
}

/// The kernels of one level.
template <Isa isa>
struct LinearCpu {
  /// Columns [32 block, 32 block + 32) of the image whose depth is the source's columns (y = x
  /// W^T).
  static void pack_rows(const PackSource& source, DType dtype, int64_t block, void* image);
  /// Columns [32 block, 32 block + 32) of the image whose depth is the source's rows (dx = dy W).
  static void pack_columns(const PackSource& source, DType dtype, int64_t block, void* image);
  /// Source columns [begin, end) as rows of a left operand in fp32; begin is a multiple of 96.
  /// bf16: depth padded to 32.
  static void pack_transposed(const PackSource& source, int64_t begin, int64_t end, void* out);
  /// @param scratch  task_scratch(depth) elements, 64-byte aligned.
  static void product(const ProductTask& task, float* scratch);
  static void wgrad(const WgradTask& task);
};

/// What AMX does better: bf16 products. Its images are the ones of LinearCpu.
struct LinearAmx {
  /// bf16 tiles [rows / 16][tokens / 32][16][32].
  static void pack_transposed(const PackSource& source, int64_t begin, int64_t end, void* out);
  static void product(const ProductTask& task, float* scratch);
  static void wgrad(const WgradTask& task, float* scratch);
};

/// Row groups on the device: group g owns rows [offsets[g], offsets[g + 1]).
struct LinearGroups {
  int64_t count = 0;                 ///< 0: all rows are one group
  const int64_t* offsets = nullptr;  ///< [count + 1]; null: of `rows_each` rows each
  int64_t rows_each = 0;
  const void* const* weights = nullptr;  ///< [count] matrices [N, K]; not used by wgrad
};

/// y = x W^T or, for dgrad, x W. On the device a weight is the plain matrix [N, K] of the working
/// type, for both.
struct LinearCudaProduct {
  DType dtype, y_dtype;
  bool accumulate;
  int64_t rows, depth, columns;  ///< of x [rows, depth] and y [rows, columns]
  const void* x;
  void* y;
  const void* weight;  ///< null with groups
  LinearGroups groups;
};
/// dweight [rows, columns] += dy [tokens, rows]^T x [tokens, columns].
struct LinearCudaWgrad {
  DType dtype;
  int64_t tokens, rows, columns;
  const void *dy, *x;
  float* dweight;          ///< null with groups
  float* const* dweights;  ///< with groups: [count] on the device
  LinearGroups groups;
};

/// fp32: the bits of linear.h. bf16: on tensor cores, the inner index ascending in steps of sixteen
/// into one fp32 accumulator, whose rounding is the hardware's; so a row's bits depend on that row
/// and W only, but are not the CPU's.
struct LinearCuda {
  void (*forward)(const LinearCudaProduct& args);
  void (*dgrad)(const LinearCudaProduct& args);
  void (*wgrad)(const LinearCudaWgrad& args);
};

/// bf16 products by Hopper's wgmma, on sm_90 and in the emulator; the sums have the order of
/// LinearCuda's. Columns, depth and, of wgrad, rows are multiples of 8; addresses, those of the
/// groups' weights among them, of 16 bytes.
struct LinearWgmmaCuda {
  /// @param tile_columns  of a tile of 128 rows: 128 or 256.
  void (*forward)(const LinearCudaProduct& args, int tile_columns);
  void (*dgrad)(const LinearCudaProduct& args, int tile_columns);
  void (*wgrad)(const LinearCudaWgrad& args, int tile_columns);
};

}  // namespace moerl::kernels
