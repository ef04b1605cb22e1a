#include "experiments/data_cursor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace moerl {
namespace {

std::vector<int64_t> draw(DataCursor& cursor, int64_t begin, int64_t end) {
  std::vector<int64_t> rows;
  for (int64_t i = begin; i < end; ++i) rows.push_back(cursor.row(i));
  return rows;
}

TEST(DataCursorTest, EveryEpochIsAPermutationOfItsOwn) {
  constexpr int64_t kRows = 57;
  DataCursor cursor(kRows, 3);
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t e = 0; e < 4; ++e) {
    epochs.push_back(draw(cursor, e * kRows, (e + 1) * kRows));
    std::vector<int64_t> sorted = epochs.back();
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < kRows; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
    for (int64_t other = 0; other < e; ++other)
      EXPECT_NE(epochs[static_cast<size_t>(other)], epochs.back());
  }
}

TEST(DataCursorTest, IsAFunctionOfTheSeed) {
  DataCursor a(40, 9), b(40, 9), c(40, 10);
  const std::vector<int64_t> rows = draw(a, 0, 80);
  EXPECT_EQ(rows, draw(b, 0, 80));
  EXPECT_NE(rows, draw(c, 0, 80));
}

TEST(DataCursorTest, GoesOnFromAnyPosition) {
  DataCursor whole(10, 1);
  const std::vector<int64_t> rows = draw(whole, 0, 35);
  for (int64_t begin : {1, 9, 10, 11, 29, 30, 34}) {
    DataCursor resumed(10, 1);
    EXPECT_EQ(draw(resumed, begin, 35), std::vector<int64_t>(rows.begin() + begin, rows.end()));
  }
  EXPECT_EQ(whole.row(2), rows[2]);  // back again
}

TEST(DataCursorTest, EveryOrderIsAboutAsLikely) {
  // First rows of 6000 epochs over 6 rows: 1000 each, standard deviation 29.
  DataCursor cursor(6, 4);
  std::vector<int> counts(6);
  for (int64_t e = 0; e < 6000; ++e) ++counts[static_cast<size_t>(cursor.row(6 * e))];
  for (int count : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(DataCursorTest, OneRowIsEnoughAndNoneIsNot) {
  DataCursor one(1, 1);
  EXPECT_EQ(draw(one, 0, 3), (std::vector<int64_t>{0, 0, 0}));
  EXPECT_THROW(DataCursor(0, 1), std::invalid_argument);
}

}  // namespace
}  // namespace moerl
