#include "kernels/gemm/linear_partition.h"

#include <gtest/gtest.h>

#include <numeric>

namespace moerl::kernels {
namespace {

/// How often each element of the [rows, columns] output is covered.
std::vector<int> coverage(const std::vector<OutputBlock>& blocks,
                          const std::vector<int64_t>& offsets, int64_t columns) {
  std::vector<int> counts(static_cast<size_t>(offsets.back() * columns));
  for (const OutputBlock& block : blocks) {
    const int64_t first = offsets[static_cast<size_t>(block.group)];
    for (int64_t r = first + block.row_begin; r < first + block.row_end; ++r)
      for (int64_t c = block.column_begin; c < block.column_end; ++c)
        ++counts[static_cast<size_t>(r * columns + c)];
  }
  return counts;
}

TEST(PartitionProductTest, CoversEveryElementOnce) {
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 1}, {0, 500}, {0, 0, 3, 3, 260, 261}})
    for (int64_t columns : {1, 33, 640})
      for (int threads : {1, 2, 16}) {
        const auto blocks = partition_product(offsets, 4096, columns, threads);
        for (int count : coverage(blocks, offsets, columns)) ASSERT_EQ(count, 1);
      }
}

TEST(PartitionProductTest, CutsRowsAndColumnsAtUnitsOnly) {
  const std::vector<int64_t> offsets = {0, 77, 1077};
  for (const OutputBlock& block : partition_product(offsets, 512, 1000, 8)) {
    EXPECT_EQ(block.row_begin % 96, 0);
    EXPECT_EQ(block.column_begin % 32, 0);
  }
}

TEST(PartitionProductTest, OneRowIsCutAlongTheColumns) {
  const std::vector<int64_t> offsets = {0, 1};
  EXPECT_EQ(partition_product(offsets, 1024, 4096, 4).size(), 16u);
}

TEST(PartitionProductTest, ManyRowsAreCutAlongTheRows) {
  const std::vector<int64_t> offsets = {0, 4096};
  for (const OutputBlock& block : partition_product(offsets, 512, 512, 4)) {
    EXPECT_EQ(block.column_begin, 0);
    EXPECT_EQ(block.column_end, 512);
  }
}

TEST(PartitionProductTest, SmallProductsStayWhole) {
  const std::vector<int64_t> offsets = {0, 4};
  EXPECT_EQ(partition_product(offsets, 64, 64, 8).size(), 1u);
}

TEST(PartitionTokensTest, CoversEveryTokenOnceInOrder) {
  const std::vector<int64_t> offsets = {0, 0, 33, 10000, 10001, 12000};
  int64_t next = 0;
  for (const auto& wave : partition_tokens(offsets, 1920))
    for (const TokenRun& run : wave) {
      EXPECT_EQ(run.begin, next);
      EXPECT_GE(run.begin, offsets[static_cast<size_t>(run.group)]);
      EXPECT_LE(run.end, offsets[static_cast<size_t>(run.group) + 1]);
      EXPECT_EQ((run.begin - offsets[static_cast<size_t>(run.group)]) % 32, 0);
      next = run.end;
    }
  EXPECT_EQ(next, 12000);
}

TEST(PartitionTokensTest, AGroupHasOneRunToAWave) {
  const std::vector<int64_t> offsets = {0, 300, 9000};
  for (const auto& wave : partition_tokens(offsets, 1024))
    for (size_t i = 1; i < wave.size(); ++i) EXPECT_NE(wave[i].group, wave[i - 1].group);
}

}  // namespace
}  // namespace moerl::kernels
