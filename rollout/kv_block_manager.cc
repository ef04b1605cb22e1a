#include "rollout/kv_block_manager.h"

#include <limits>

#include "common/check.h"

namespace moerl {

KvBlockManager::KvBlockManager(int64_t num_blocks) {
  check(num_blocks >= 1 && num_blocks <= std::numeric_limits<int32_t>::max(),
        "KvBlockManager: num_blocks is ", num_blocks, ", expected >= 1");
  owners_.assign(static_cast<size_t>(num_blocks), 0);
  free_.reserve(owners_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block)
    free_.push_back(static_cast<int32_t>(block));
}

int32_t KvBlockManager::allocate() {
  check_internal(!free_.empty(), "KvBlockManager: none of ", num_blocks(), " blocks is free");
  const int32_t block = free_.back();
  free_.pop_back();
  owners_[static_cast<size_t>(block)] = 1;
  return block;
}

void KvBlockManager::grow(std::vector<int32_t>& table, int64_t size) {
  while (static_cast<int64_t>(table.size()) < size) table.push_back(allocate());
}

ForkedTable KvBlockManager::fork(std::span<const int32_t> source, int64_t positions) {
  const auto full = static_cast<size_t>(positions / kernels::kKvBlock);
  check_internal(static_cast<int64_t>(source.size()) >= blocks_for(positions),
                 "KvBlockManager: fork of ", positions, " positions from a table of ",
                 source.size(), " blocks");
  ForkedTable forked;
  forked.blocks.assign(source.begin(), source.begin() + static_cast<ptrdiff_t>(full));
  for (int32_t block : forked.blocks) ++owners_[static_cast<size_t>(block)];
  if (positions % kernels::kKvBlock != 0) {
    forked.copy = {source[full], allocate()};
    forked.blocks.push_back(forked.copy->to);
  }
  return forked;
}

void KvBlockManager::release(std::vector<int32_t>& table) {
  for (size_t i = table.size(); i-- > 0;) {
    int32_t& owners = owners_[static_cast<size_t>(table[i])];
    check_internal(owners > 0, "KvBlockManager: block ", table[i], " is released but free");
    if (--owners == 0) free_.push_back(table[i]);
  }
  table.clear();
}

}  // namespace moerl
