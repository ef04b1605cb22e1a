#include "kernels/layout/runs.h"

#include <gtest/gtest.h>

#include "tests/testing/random_tensors.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_floats;

TEST(RunsTest, CopiesRunsAndLeavesTheRest) {
  ExecContext ctx(2);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    // Columns [2, 5) of each of 3 heads of width 7 become [3 heads, 40 tokens, 4], at column 1.
    const Tensor x = random_tensor({40, 21}, dtype, 1);
    Tensor y = random_tensor({3, 40, 4}, dtype, 2);
    const std::vector<float> from = to_floats(x), before = to_floats(y);
    copy_runs(ctx, {40, 3, 3}, x, {2, 21, 7}, y, {1, 4, 160});
    const std::vector<float> after = to_floats(y);
    for (size_t h = 0; h < 3; ++h)
      for (size_t t = 0; t < 40; ++t)
        for (size_t i = 0; i < 4; ++i) {
          const size_t at = (h * 40 + t) * 4 + i;
          ASSERT_EQ(after[at], i == 0 ? before[at] : from[t * 21 + h * 7 + 2 + i - 1]);
        }
  }
}

TEST(RunsTest, SumsTheHeadsInOrder) {
  ExecContext ctx(2);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = random_tensor({40, 21}, dtype, 1);
    Tensor sum = ctx.empty({40, 3}, dtype);
    sum_head_runs(ctx, {40, 3, 3}, x, {2, 21, 7}, sum);
    const std::vector<float> from = to_floats(x), got = to_floats(sum);
    for (size_t t = 0; t < 40; ++t)
      for (size_t i = 0; i < 3; ++i) {
        const float* at = from.data() + t * 21 + 2 + i;
        const float exact = at[0] + at[7] + at[14];
        ASSERT_EQ(got[t * 3 + i], dtype == DType::kF32 ? exact : to_float(to_bf16(exact)));
      }
  }
}

TEST(RunsTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor x = ctx.zeros({4, 5}, DType::kF32), y = ctx.zeros({4, 2}, DType::kF32);
  Tensor half = ctx.zeros({4, 2}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(copy_runs(ctx, {4, 1, 2}, x, {4, 5, 0}, y, {0, 2, 0}),
                          "copy_runs: src [4, 5] has 20 elements, the runs end at 21");
  EXPECT_INVALID_ARGUMENT(copy_runs(ctx, {4, 1, 2}, x, {0, 5, 0}, y, {1, 2, 0}), "dst [4, 2]");
  EXPECT_INVALID_ARGUMENT(copy_runs(ctx, {4, 1, 2}, x, {0, 5, 0}, half, {0, 2, 0}), "dst bf16");
  EXPECT_INVALID_ARGUMENT(sum_head_runs(ctx, {4, 2, 2}, x, {0, 5, 4}, y),
                          "sum_head_runs: src [4, 5]");
  EXPECT_INVALID_ARGUMENT(sum_head_runs(ctx, {4, 2, 1}, x, {0, 5, 2}, y), "dst is [4, 2]");
}

}  // namespace
}  // namespace moerl::kernels
