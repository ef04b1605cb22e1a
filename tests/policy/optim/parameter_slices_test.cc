#include "policy/optim/parameter_slices.h"

#include <gtest/gtest.h>

namespace moerl::testing {
namespace {

const std::vector<int64_t> kSizes = {10, 1, 700, 4, 33};

TEST(ParameterSlicesTest, EverySliceTogetherIsEveryElementOnceInOrder) {
  for (int num_slices : {1, 2, 3, 4, 50, 1000}) {
    const ParameterSlices slices(kSizes, num_slices, 4);
    std::vector<int64_t> next(kSizes.size());
    size_t last = 0;
    for (int s = 0; s < num_slices; ++s)
      for (const ParameterRun& run : slices.slice(s)) {
        EXPECT_GE(run.parameter, last);
        EXPECT_EQ(run.begin, next[run.parameter]);
        EXPECT_EQ(run.begin % 4, 0);
        last = run.parameter;
        next[run.parameter] = run.end;
      }
    EXPECT_EQ(next, kSizes) << num_slices;
  }
}

TEST(ParameterSlicesTest, SlicesDifferByABlock) {
  const ParameterSlices slices(kSizes, 7, 4);
  int64_t fewest = 1000, most = 0;
  for (int s = 0; s < 7; ++s) {
    int64_t blocks = 0;
    for (const ParameterRun& run : slices.slice(s)) blocks += (run.size() + 3) / 4;
    fewest = std::min(fewest, blocks);
    most = std::max(most, blocks);
  }
  EXPECT_LE(most - fewest, 1);
}

TEST(ParameterSlicesTest, TheWindowsOfASliceAreTheSlice) {
  const ParameterSlices slices(kSizes, 2, 1);  // 374 blocks a slice, several windows
  ASSERT_GT(slices.num_windows(), 2);
  for (int s = 0; s < 2; ++s) {
    int64_t elements = 0;
    for (int64_t w = 0; w < slices.num_windows(); ++w) {
      const int64_t n = num_elements(slices.window(s, w));
      EXPECT_LE(n, 64);
      elements += n;
    }
    EXPECT_EQ(elements, num_elements(slices.slice(s)));
  }
  EXPECT_TRUE(slices.window(1, slices.num_windows()).empty());
}

}  // namespace
}  // namespace moerl::testing
