#pragma once
// The bf16 products in AMX tiles, written against a small set of tile operations so that the tests
// can run it without the hardware. Included by linear_amx.cc.
//
// `Tiles` gives: configure(TileConfig), release(), and with constant tile numbers zero<C>(),
// load<T>(from, row_bytes), load_once<T>(from, row_bytes) (keeps the line out of the L1 cache),
// store<C>(to, row_bytes) and multiply<C, A, B>(), which is TDPBF16PS.
//
// A step works on 32 x 32 sums: tiles 0 to 3. Tiles 4 and 5 hold 16 rows of the left operand each,
// 6 and 7 16 columns of the image each, all 32 deep.
#include "kernels/gemm/linear_impl.h"
#include "kernels/gemm/linear_micro_kernel.h"
#include "kernels/gemm/linear_pack.h"

namespace moerl::kernels {
namespace {

/// The operand of LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t column_bytes[16];
  uint8_t rows[16];
};

inline constexpr int64_t kTileBytes = 1024, kTileRows = 16, kRowBlock = 32;
/// Depth, in blocks of 32, that a row block's tiles may have to stay in the L1 cache.
inline constexpr int64_t kDepthBlocks = 16;
/// Image tiles of one pass over the rows: 1 MiB, half of the L2 cache.
inline constexpr int64_t kPassTiles = 512;
inline constexpr int64_t kMaxPassBlocks = 64;
/// Staged sums are padded by a vector so that their rows spread over the cache sets.
inline constexpr int64_t kStagedStride = kMaxPassBlocks * kBlock + 16;
/// fp32 elements of repacked rows at the start of the scratch memory.
inline constexpr int64_t kRepackElements = kDepthBlocks * 2 * kTileBytes / 4;

/// Sums of `rows` rows: tiles 0, 1, 4 take the first 16, tiles 2, 3, 5 the rest.
template <class Tiles>
MOERL_INLINE void configure_rows(int64_t rows) {
  TileConfig config = {};
  config.palette = 1;
  const uint8_t top = static_cast<uint8_t>(rows < kTileRows ? rows : kTileRows);
  const uint8_t bottom = static_cast<uint8_t>(rows > kTileRows ? rows - kTileRows : kTileRows);
  const uint8_t tile_rows[8] = {top, top, bottom, bottom, top, bottom, 16, 16};
  for (int t = 0; t < 8; ++t) {
    config.rows[t] = tile_rows[t];
    config.column_bytes[t] = 64;
  }
  Tiles::configure(config);
}

/// The tiles of a row block: 16 rows at `top`, the others at `bottom`, `step` bytes per 32 of
/// depth.
struct LeftTiles {
  const char *top, *bottom;
  int64_t row_bytes, step;
};

/// A run of the image's column blocks: block n, depth step k at begin + n * block_bytes + k * 2048.
struct ImageRun {
  const char* begin;
  int64_t block_bytes, column_blocks, steps;
};

/// How a pass treats its sums and caches.
struct PassMode {
  bool two_row_tiles;  ///< more than 16 rows
  bool load_sums;      ///< continue the sums in memory
  bool image_once;     ///< the image is not to displace the left operand from the L1 cache
};

template <class Tiles, PassMode kMode>
struct TilePass {
  template <int T>
  static MOERL_INLINE void load_image(const char* from) {
    if constexpr (kMode.image_once) {
      Tiles::template load_once<T>(from, 64);
    } else {
      Tiles::template load<T>(from, 64);
    }
  }
  template <int C>
  static MOERL_INLINE void begin_sum(const float* from, int64_t row_bytes) {
    if constexpr (kMode.load_sums) {
      Tiles::template load<C>(from, row_bytes);
    } else {
      Tiles::template zero<C>();
    }
  }

  /// One depth step. With `previous`, the finished sums in the tiles are stored there, each just
  /// before its tile begins the next column block at `previous` + 32: stores overlap products.
  template <bool kTurnOver>
  static MOERL_INLINE void step(const LeftTiles& left, int64_t k, const char* image,
                                float* previous, int64_t stride) {
    float* below = previous + kTileRows * stride;
    const int64_t bytes = stride * 4;
    load_image<6>(image);
    Tiles::template load<4>(left.top + k * left.step, left.row_bytes);
    if constexpr (kTurnOver) {
      Tiles::template store<0>(previous, bytes);
      begin_sum<0>(previous + 32, bytes);
    }
    Tiles::template multiply<0, 4, 6>();
    load_image<7>(image + kTileBytes);
    if constexpr (kTurnOver) {
      Tiles::template store<1>(previous + 16, bytes);
      begin_sum<1>(previous + 48, bytes);
    }
    Tiles::template multiply<1, 4, 7>();
    if constexpr (kMode.two_row_tiles) {
      Tiles::template load<5>(left.bottom + k * left.step, left.row_bytes);
      if constexpr (kTurnOver) {
        Tiles::template store<2>(below, bytes);
        begin_sum<2>(below + 32, bytes);
      }
      Tiles::template multiply<2, 5, 6>();
      if constexpr (kTurnOver) {
        Tiles::template store<3>(below + 16, bytes);
        begin_sum<3>(below + 48, bytes);
      }
      Tiles::template multiply<3, 5, 7>();
    }
  }

  static void run(const LeftTiles& left, const ImageRun& image, float* sums, int64_t stride) {
    const int64_t bytes = stride * 4;
    begin_sum<0>(sums, bytes);
    begin_sum<1>(sums + 16, bytes);
    if constexpr (kMode.two_row_tiles) {
      begin_sum<2>(sums + kTileRows * stride, bytes);
      begin_sum<3>(sums + kTileRows * stride + 16, bytes);
    }
    const char* from = image.begin;
    for (int64_t n = 0; n < image.column_blocks; ++n, from += image.block_bytes) {
      int64_t k = 0;
      if (n > 0) step<true>(left, k++, from, sums + (n - 1) * 32, stride);
      for (; k < image.steps; ++k) step<false>(left, k, from + k * 2 * kTileBytes, sums, stride);
    }
    float* last = sums + (image.column_blocks - 1) * 32;
    Tiles::template store<0>(last, bytes);
    Tiles::template store<1>(last + 16, bytes);
    if constexpr (kMode.two_row_tiles) {
      Tiles::template store<2>(last + kTileRows * stride, bytes);
      Tiles::template store<3>(last + kTileRows * stride + 16, bytes);
    }
  }
};

template <class Tiles>
MOERL_INLINE void run_pass(PassMode mode, const LeftTiles& left, const ImageRun& image, float* sums,
                           int64_t stride) {
  const auto choose = [&]<bool kTwo, bool kLoad>() {
    if (mode.image_once)
      return TilePass<Tiles, PassMode{kTwo, kLoad, true}>::run(left, image, sums, stride);
    TilePass<Tiles, PassMode{kTwo, kLoad, false}>::run(left, image, sums, stride);
  };
  if (mode.two_row_tiles) {
    if (mode.load_sums) return choose.template operator()<true, true>();
    return choose.template operator()<true, false>();
  }
  if (mode.load_sums) return choose.template operator()<false, true>();
  choose.template operator()<false, false>();
}

/// Copies `rows` rows of x, depth [begin, end), into tiles, zeros behind an odd depth.
MOERL_INLINE LeftTiles repack_rows(const bf16* x, int64_t rows, int64_t depth, int64_t begin,
                                   int64_t steps, char* tiles) {
  for (int64_t r = 0; r < rows; ++r) {
    char* to = tiles + r / kTileRows * steps * kTileBytes + r % kTileRows * 64;
    const bf16* from = x + r * depth;
    for (int64_t s = 0, k = begin; s < steps; ++s, k += kBlock, to += kTileBytes) {
      if (depth - k < kBlock) std::memset(to, 0, 64);
      const int64_t valid = smaller(kBlock, depth - k);
      if (valid == kBlock) {
        std::memcpy(to, from + k, 64);
      } else {
        std::memcpy(to, from + k, static_cast<size_t>(valid) * 2);
      }
    }
  }
  return {tiles, tiles + steps * kTileBytes, 64, kTileBytes};
}

/// Rows [row, row + rows), depth steps [step, step + steps) of x as tiles.
MOERL_INLINE LeftTiles product_rows_as_tiles(const ProductTask& task, int64_t row, int64_t rows,
                                             int64_t step, int64_t steps, char* scratch) {
  const bf16* x = static_cast<const bf16*>(task.x) + row * task.depth;
  const int64_t row_bytes = task.depth * 2;
  // Rows at multiples of 2 KiB would share a few cache sets.
  if (task.depth % kBlock != 0 || row_bytes % 2048 == 0)
    return repack_rows(x, rows, task.depth, step * kBlock, steps, scratch);
  const char* top = reinterpret_cast<const char*>(x + step * kBlock);
  return {top, top + kTileRows * row_bytes, row_bytes, 64};
}

/// Column blocks that fit into the cache together, at most up to `end`; a last block that is
/// narrower than 32 columns goes alone, through staged sums.
MOERL_INLINE int64_t pass_end(int64_t block, int64_t column_end, int64_t steps) {
  int64_t fitting = steps == 0 ? kMaxPassBlocks : kPassTiles / steps;
  fitting = fitting < 4 ? 4 : smaller(fitting, kMaxPassBlocks);
  const int64_t whole = column_end / kBlock;
  return block < whole ? smaller(whole, block + fitting) : block + 1;
}

/// Writes staged sums of columns [column, column + width) to y.
template <typename T>
MOERL_INLINE void write_staged(const ProductTask& task, const float* staged, int64_t row,
                               int64_t rows, int64_t column, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    T* y = static_cast<T*>(task.y) + (row + r) * task.columns + column;
    for (int64_t c = 0; c < width; c += kLanes)
      write(y + c, load(staged + r * kStagedStride + c), width - c, task.accumulate);
  }
}

/// Column blocks [block, stop) of y for rows [row, row + rows).
template <class Tiles>
MOERL_INLINE void product_row_block(const ProductTask& task, int64_t row, int64_t rows,
                                    int64_t block, int64_t stop, float* scratch) {
  const int64_t steps = divide_up(task.depth, kBlock), column = block * kBlock;
  const int64_t width = smaller(stop * kBlock, task.column_end) - column;
  const bool direct = task.y_dtype == DType::kF32 && !task.accumulate && width % kBlock == 0;
  float* staged = scratch + kRepackElements;
  float* sums = direct ? static_cast<float*>(task.y) + row * task.columns + column : staged;
  const int64_t stride = direct ? task.columns : kStagedStride;
  const char* image = static_cast<const char*>(task.image) + block * steps * 2 * kTileBytes;
  for (int64_t step = 0; step < steps; step += kDepthBlocks) {
    const int64_t count = smaller(kDepthBlocks, steps - step);
    const LeftTiles left =
        product_rows_as_tiles(task, row, rows, step, count, reinterpret_cast<char*>(scratch));
    const PassMode mode = {rows > kTileRows, step > 0, row / kRowBlock % 8 != 0};
    run_pass<Tiles>(mode, left,
                    {image + step * 2 * kTileBytes, steps * 2 * kTileBytes, stop - block, count},
                    sums, stride);
  }
  if (direct) return;
  if (task.y_dtype == DType::kF32) {
    write_staged<float>(task, staged, row, rows, column, width);
  } else {
    write_staged<bf16>(task, staged, row, rows, column, width);
  }
}

template <class Tiles>
MOERL_INLINE void amx_product(const ProductTask& task, float* scratch) {
  const int64_t steps = divide_up(task.depth, kBlock);
  const int64_t whole_rows = task.rows / kRowBlock * kRowBlock;
  for (int64_t block = task.column_begin / kBlock; block * kBlock < task.column_end;) {
    const int64_t stop = pass_end(block, task.column_end, steps);
    if (whole_rows > 0) configure_rows<Tiles>(kRowBlock);
    for (int64_t row = 0; row < whole_rows; row += kRowBlock)
      product_row_block<Tiles>(task, row, kRowBlock, block, stop, scratch);
    if (whole_rows < task.rows) {
      configure_rows<Tiles>(task.rows - whole_rows);
      product_row_block<Tiles>(task, whole_rows, task.rows - whole_rows, block, stop, scratch);
    }
    block = stop;
  }
  Tiles::release();
}

/// Copies `rows` rows of `width` columns between dweight and the staged sums.
MOERL_INLINE void copy_sums(const float* from, int64_t from_stride, float* to, int64_t to_stride,
                            int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(to + r * to_stride, from + r * from_stride,
                static_cast<size_t>(width) * sizeof(float));
}

/// Column blocks [block, stop) of dweight for rows [row, row + rows).
template <class Tiles>
MOERL_INLINE void wgrad_row_block(const WgradTask& task, int64_t row, int64_t rows, int64_t block,
                                  int64_t stop, float* scratch) {
  const int64_t steps = divide_up(task.tokens, kBlock), column = block * kBlock;
  const int64_t width = smaller(stop * kBlock, task.column_end) - column;
  const bool direct = width % kBlock == 0;
  float* dweight = task.dweight + row * task.columns + column;
  float* staged = scratch + kRepackElements;
  if (!direct) copy_sums(dweight, task.columns, staged, kStagedStride, rows, width);
  const char* tiles =
      static_cast<const char*>(task.transposed) + row / kTileRows * steps * kTileBytes;
  const char* image = static_cast<const char*>(task.image) + block * steps * 2 * kTileBytes;
  for (int64_t step = 0; step < steps; step += kDepthBlocks) {
    const char* top = tiles + step * kTileBytes;
    const LeftTiles left = {top, top + steps * kTileBytes, 64, kTileBytes};
    const PassMode mode = {rows > kTileRows, true, row / kRowBlock % 8 != 0};
    run_pass<Tiles>(mode, left,
                    {image + step * 2 * kTileBytes, steps * 2 * kTileBytes, stop - block,
                     smaller(kDepthBlocks, steps - step)},
                    direct ? dweight : staged, direct ? task.columns : kStagedStride);
  }
  if (!direct) copy_sums(staged, kStagedStride, dweight, task.columns, rows, width);
}

template <class Tiles>
MOERL_INLINE void amx_wgrad(const WgradTask& task, float* scratch) {
  const int64_t steps = divide_up(task.tokens, kBlock);
  const int64_t rows = task.row_end - task.row_begin;
  const int64_t whole_end = task.row_begin + rows / kRowBlock * kRowBlock;
  for (int64_t block = task.column_begin / kBlock; block * kBlock < task.column_end;) {
    const int64_t stop = pass_end(block, task.column_end, steps);
    if (whole_end > task.row_begin) configure_rows<Tiles>(kRowBlock);
    for (int64_t row = task.row_begin; row < whole_end; row += kRowBlock)
      wgrad_row_block<Tiles>(task, row, kRowBlock, block, stop, scratch);
    if (whole_end < task.row_end) {
      configure_rows<Tiles>(task.row_end - whole_end);
      wgrad_row_block<Tiles>(task, whole_end, task.row_end - whole_end, block, stop, scratch);
    }
    block = stop;
  }
  Tiles::release();
}

/// Columns [begin, end) of bf16 [tokens, columns] as rows of tiles [rows / 16][tokens /
/// 32][16][32].
MOERL_INLINE void amx_pack_transposed(const PackSource& source, int64_t begin, int64_t end,
                                      void* out) {
  const int64_t steps = divide_up(source.rows, kBlock);
  alignas(64) bf16 pairs[kTileElements];
  for (int64_t column = begin; column < end; column += kTileRows) {
    bf16* tile = static_cast<bf16*>(out) + column / kTileRows * steps * kTileElements;
    const bf16* from = static_cast<const bf16*>(source.data) + column;
    for (int64_t t = 0; t < source.rows; t += kBlock, tile += kTileElements) {
      pack_tile_columns(from + t * source.columns, source.rows - t, source.columns,
                        source.columns - column, pairs);
      transpose_words(reinterpret_cast<const uint32_t*>(pairs), kTileRows,
                      reinterpret_cast<uint32_t*>(tile), kTileRows);
    }
  }
}

}  // namespace
}  // namespace moerl::kernels
