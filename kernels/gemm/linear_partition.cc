#include "kernels/gemm/linear_partition.h"

#include <algorithm>

#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {
namespace {

/// Multiply-adds below which a block is not worth a hand-over to another thread.
constexpr int64_t kMinWork = 1 << 17;
/// Blocks per thread, so that threads that are late or slow even out.
constexpr int64_t kBlocksPerThread = 4;
/// fp32 elements of packed operands in one wave of wgrad (8 MiB).
constexpr int64_t kWaveElements = 2 << 20;
constexpr int64_t kMaxColumnUnit = 256;
constexpr int64_t kMinWaveTokens = 256, kMaxWaveTokens = 4096;

/// Splits [0, size) into at most `parts` ranges whose bounds are multiples of the unit.
template <typename F>
void split(int64_t size, int64_t parts, int64_t unit, const F& f) {
  const int64_t units = divide_up(size, unit);
  const int64_t step = divide_up(units, std::clamp<int64_t>(parts, 1, units)) * unit;
  for (int64_t begin = 0; begin < size; begin += step) f(begin, std::min(size, begin + step));
}

}  // namespace

std::vector<OutputBlock> partition_product(std::span<const int64_t> offsets, int64_t depth,
                                           int64_t columns, int num_threads) {
  std::vector<OutputBlock> blocks;
  const int64_t total_rows = offsets.back() - offsets.front();
  const int64_t work = total_rows * std::max<int64_t>(depth, 1) * columns;
  if (work == 0) return blocks;
  const int64_t wanted =
      num_threads == 1 ? 1
                       : std::clamp<int64_t>(work / kMinWork, 1, kBlocksPerThread * num_threads);
  for (size_t g = 0; g + 1 < offsets.size(); ++g) {
    const int64_t rows = offsets[g + 1] - offsets[g];
    if (rows == 0) continue;
    const int64_t share = divide_up(wanted * rows, total_rows);
    const int64_t row_parts = std::clamp<int64_t>(rows / kRowUnit, 1, share);
    split(rows, row_parts, kRowUnit, [&](int64_t row_begin, int64_t row_end) {
      split(columns, divide_up(share, row_parts), kBlock, [&](int64_t begin, int64_t end) {
        blocks.push_back({static_cast<int64_t>(g), row_begin, row_end, begin, end});
      });
    });
  }
  return blocks;
}

int64_t wgrad_column_unit(int64_t columns, int num_threads) {
  if (num_threads == 1) return kMaxColumnUnit;
  const int64_t share = divide_up(columns, kBlocksPerThread * num_threads);
  return std::clamp(round_up(share, kBlock), kBlock, kMaxColumnUnit);
}

std::vector<std::vector<TokenRun>> partition_tokens(std::span<const int64_t> offsets,
                                                    int64_t width) {
  const int64_t fitting = kWaveElements / std::max<int64_t>(width, 1) / kBlock * kBlock;
  const int64_t wave_tokens = std::clamp(fitting, kMinWaveTokens, kMaxWaveTokens);
  std::vector<std::vector<TokenRun>> waves;
  int64_t room = 0;
  for (size_t g = 0; g + 1 < offsets.size(); ++g)
    for (int64_t begin = offsets[g]; begin < offsets[g + 1];) {
      if (room <= 0) {
        waves.emplace_back();
        room = wave_tokens;
      }
      const int64_t end = std::min(offsets[g + 1], begin + room);
      waves.back().push_back({static_cast<int64_t>(g), begin, end});
      room -= round_up(end - begin, kBlock);
      begin = end;
    }
  return waves;
}

}  // namespace moerl::kernels
