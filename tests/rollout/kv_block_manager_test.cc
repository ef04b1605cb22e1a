#include "rollout/kv_block_manager.h"

#include <gtest/gtest.h>

#include <set>

#include "common/rng.h"

namespace moerl {
namespace {

constexpr int64_t kBlock = kernels::kKvBlock;

TEST(KvBlockManagerTest, GrowTakesDifferentFreeBlocks) {
  KvBlockManager blocks(5);
  std::vector<int32_t> a, b;
  blocks.grow(a, 2);
  blocks.grow(b, 3);
  std::set<int32_t> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(blocks.num_free(), 0);
}

TEST(KvBlockManagerTest, GrowBeyondTheFreeBlocksIsAnInternalError) {
  KvBlockManager blocks(1);
  std::vector<int32_t> table;
  EXPECT_THROW(blocks.grow(table, 2), std::logic_error);
}

TEST(KvBlockManagerTest, ForkSharesFullBlocksAndCopiesThePartlyFilledLastOne) {
  KvBlockManager blocks(8);
  std::vector<int32_t> source;
  blocks.grow(source, 3);
  const ForkedTable forked = blocks.fork(source, 2 * kBlock + 1);
  ASSERT_EQ(forked.blocks.size(), 3u);
  EXPECT_EQ(forked.blocks[0], source[0]);
  EXPECT_EQ(forked.blocks[1], source[1]);
  EXPECT_NE(forked.blocks[2], source[2]);
  ASSERT_TRUE(forked.copy);
  EXPECT_EQ(forked.copy->from, source[2]);
  EXPECT_EQ(forked.copy->to, forked.blocks[2]);
  EXPECT_EQ(blocks.num_owners(source[0]), 2);
  EXPECT_EQ(blocks.num_owners(source[2]), 1);
  EXPECT_EQ(blocks.num_free(), 4);
}

TEST(KvBlockManagerTest, ForkOfFullBlocksCopiesNothing) {
  KvBlockManager blocks(4);
  std::vector<int32_t> source;
  blocks.grow(source, 3);
  const ForkedTable forked = blocks.fork(source, 2 * kBlock);
  EXPECT_EQ(forked.blocks, (std::vector<int32_t>{source[0], source[1]}));
  EXPECT_FALSE(forked.copy);
  EXPECT_EQ(blocks.num_free(), 1);
}

TEST(KvBlockManagerTest, BlocksAreFreeOnceEveryOwnerHasReleasedThem) {
  KvBlockManager blocks(4);
  std::vector<int32_t> source;
  blocks.grow(source, 2);
  ForkedTable forked = blocks.fork(source, 2 * kBlock);
  blocks.release(source);
  EXPECT_TRUE(source.empty());
  EXPECT_EQ(blocks.num_free(), 2);
  blocks.release(forked.blocks);
  EXPECT_EQ(blocks.num_free(), 4);
}

TEST(KvBlockManagerTest, ReleasingAFreeBlockIsAnInternalError) {
  KvBlockManager blocks(4);
  std::vector<int32_t> table;
  blocks.grow(table, 1);
  std::vector<int32_t> again = table;
  blocks.release(table);
  EXPECT_THROW(blocks.release(again), std::logic_error);
}

TEST(KvBlockManagerTest, OwnersAlwaysEqualTheTablesThatHoldABlock) {
  Rng rng(7);
  KvBlockManager blocks(24);
  std::vector<std::vector<int32_t>> tables;
  for (int round = 0; round < 5000; ++round) {
    const uint32_t action = rng.below(3);
    if (action == 0 && blocks.num_free() >= 3) {
      blocks.grow(tables.emplace_back(), 1 + rng.below(3));
    } else if (action == 1 && !tables.empty() && blocks.num_free() >= 1) {
      const std::vector<int32_t> source = tables[rng.below(static_cast<uint32_t>(tables.size()))];
      const auto positions = 1 + rng.below(static_cast<uint32_t>(source.size() * kBlock));
      tables.push_back(blocks.fork(source, positions).blocks);
    } else if (!tables.empty()) {
      const auto i = rng.below(static_cast<uint32_t>(tables.size()));
      blocks.release(tables[i]);
      tables.erase(tables.begin() + i);
    }
    std::vector<int32_t> owners(24, 0);
    for (const auto& table : tables)
      for (int32_t block : table) ++owners[static_cast<size_t>(block)];
    int64_t num_free = 0;
    for (int32_t block = 0; block < 24; ++block) {
      ASSERT_EQ(blocks.num_owners(block), owners[static_cast<size_t>(block)]) << "round " << round;
      num_free += owners[static_cast<size_t>(block)] == 0;
    }
    ASSERT_EQ(blocks.num_free(), num_free) << "round " << round;
  }
}

}  // namespace
}  // namespace moerl
