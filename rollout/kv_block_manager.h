#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/attention/attention.h"

namespace moerl {

/// The contents of one cache block that must be copied to another before they are read.
struct BlockCopy {
  int32_t from = 0, to = 0;
};

/// A block table that begins with positions of another one.
struct ForkedTable {
  std::vector<int32_t> blocks;
  std::optional<BlockCopy> copy;  ///< to be made before either table is written to
};

/// Hands out the blocks of the key-value cache, kKvBlock positions each, and counts their owners.
/// Keeps numbers only; contents are the cache's. The order of hand-out is deterministic.
/// Not thread safe.
class KvBlockManager {
 public:
  explicit KvBlockManager(int64_t num_blocks);

  int64_t num_blocks() const { return static_cast<int64_t>(owners_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int32_t num_owners(int32_t block) const { return owners_[static_cast<size_t>(block)]; }
  static int64_t blocks_for(int64_t positions) {
    return (positions + kernels::kKvBlock - 1) / kernels::kKvBlock;
  }

  /// Appends free blocks until the table has `size`. REQUIRES: that many are free.
  void grow(std::vector<int32_t>& table, int64_t size);
  /// A table that begins with the first `positions` positions of `source`: full blocks are shared;
  /// a partly filled last one, which both would write to, becomes a copy.
  /// REQUIRES: a block is free if positions is no multiple of kKvBlock.
  ForkedTable fork(std::span<const int32_t> source, int64_t positions);
  /// Gives up the table's hold on its blocks; those without owner become free. Clears the table.
  void release(std::vector<int32_t>& table);

 private:
  int32_t allocate();

  std::vector<int32_t> owners_;  ///< of each block
  std::vector<int32_t> free_;    ///< last one first: it is the warmest in the processor's caches
};

}  // namespace moerl
