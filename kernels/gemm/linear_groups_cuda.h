#pragma once
// The rows of a grouped product as tiles of the device. Included by *_cuda.cu only.

#include "kernels/cuda/device.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels::cuda {

/// Rows [begin, end) of a tile that is all of one group; none if group < 0.
struct RowTile {
  int64_t group, begin, end;
};

/// The tile-th tile of [begin, end).
__device__ inline RowTile row_tile(int64_t group, int64_t begin, int64_t end, int64_t tile,
                                   int size) {
  begin += tile * size;
  return {begin < end ? group : -1, begin, begin + size < end ? begin + size : end};
}

/// The tile-th tile when every group is cut by itself. The sizes of uneven groups are known to the
/// device only, so a grid has a tile more for each of them than rows need, and some have no rows.
__device__ inline RowTile find_row_tile(const LinearGroups& groups, int64_t rows, int64_t tile,
                                        int size) {
  if (groups.count == 0) return row_tile(0, 0, rows, tile, size);
  if (groups.offsets == nullptr) {
    const int64_t tiles = (groups.rows_each + size - 1) / size, group = tile / tiles;
    const int64_t begin = group * groups.rows_each;
    return row_tile(group, begin, begin + groups.rows_each, tile % tiles, size);
  }
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t begin = groups.offsets[g] + tile * size, end = groups.offsets[g + 1];
    if (begin < end) return {g, begin, begin + size < end ? begin + size : end};
    tile -= (end - groups.offsets[g] + size - 1) / size;
  }
  return {-1, 0, 0};
}

/// Tiles that a grid needs so that find_row_tile meets every row.
inline unsigned row_tiles(const LinearGroups& groups, int64_t rows, int size) {
  const bool even = groups.count > 0 && groups.offsets == nullptr;
  const int64_t tiles = even ? groups.count * blocks_for(groups.rows_each, size)
                             : blocks_for(rows, size) + groups.count;
  return static_cast<unsigned>(tiles);
}

/// Whether tiles of sixteen rows hold most groups.
inline bool has_few_rows(const LinearGroups& groups, int64_t rows) {
  return rows <= 16 * (groups.count + 1);
}

}  // namespace moerl::kernels::cuda
