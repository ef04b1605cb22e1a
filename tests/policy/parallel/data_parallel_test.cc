#include "policy/parallel/data_parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "common/error.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> split(int64_t num_shards, const std::vector<int64_t>& lengths) {
  return DataParallel(single_process(), num_shards).split(lengths);
}

TEST(DataParallelTest, ShardsHaveAboutAsManyTokens) {
  EXPECT_THAT(split(1, {5, 6, 7}), ElementsAre(0, 3));
  EXPECT_THAT(split(2, {10, 10, 10, 10}), ElementsAre(0, 2, 4));
  EXPECT_THAT(split(4, {10, 10, 10, 10}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(split(2, {30, 10, 10, 10}), ElementsAre(0, 1, 4));
  EXPECT_THAT(split(2, {10, 10, 10, 30}), ElementsAre(0, 3, 4));
}

TEST(DataParallelTest, MoreShardsThanSequencesLeavesSomeEmpty) {
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{}, {5}, {5, 9}, {1, 100, 1}, {100, 1, 1}}) {
    const std::vector<int64_t> borders = split(4, lengths);
    ASSERT_EQ(borders.size(), 5u);
    EXPECT_EQ(borders.front(), 0);
    EXPECT_EQ(borders.back(), static_cast<int64_t>(lengths.size()));
    EXPECT_TRUE(std::is_sorted(borders.begin(), borders.end()));
  }
}

TEST(DataParallelTest, EveryShardIsComputedOnceAndComesInOrder) {
  for (int size : {1, 2, 3, 4, 5, 6}) {
    std::mutex mutex;
    std::multiset<int64_t> computed;
    ThreadRanks::run(size, [&](Communicator& comm) {
      int64_t rounds = 0;
      const std::vector<double> all = DataParallel(comm, 6).for_each_shard<double>(
          [&](int64_t shard) {
            std::lock_guard lock(mutex);
            computed.insert(shard);
            return 10.0 * static_cast<double>(shard);
          },
          [&] { ++rounds; });
      EXPECT_THAT(all, ElementsAre(0, 10, 20, 30, 40, 50));
      EXPECT_EQ(rounds, (6 + size - 1) / size);
    });
    EXPECT_THAT(computed, ElementsAre(0, 1, 2, 3, 4, 5));
  }
}

TEST(DataParallelTest, EveryRankNeedsAShard) {
  ThreadRanks::run(2, [](Communicator& comm) {
    EXPECT_THROW(DataParallel(comm, 1), ConfigError);
    EXPECT_NO_THROW(DataParallel(comm, 2));
    EXPECT_NO_THROW(DataParallel(comm, 3));
  });
}

TEST(DataParallelTest, AddsUpTheRoutingOfAllRanks) {
  ThreadRanks::run(3, [](Communicator& comm) {
    RoutingCounts mine;  // rank 0 had no shard, rank 2 also ran the MTP module
    if (comm.rank() > 0) mine.per_layer = {{1, 2, 3}, {10, 20, 30}};
    if (comm.rank() == 2) mine.per_layer.push_back({7, 8, 9});
    EXPECT_THAT(DataParallel(comm, 3).add_up(mine).per_layer,
                ElementsAre(ElementsAre(2, 4, 6), ElementsAre(20, 40, 60), ElementsAre(7, 8, 9)));
  });
}

}  // namespace
}  // namespace moerl::testing
