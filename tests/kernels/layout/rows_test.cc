#include "kernels/layout/rows.h"

#include <gtest/gtest.h>

#include "tests/testing/random_tensors.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::same_bits;

TEST(RowsTest, GathersAndScatters) {
  ExecContext ctx(2);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = random_tensor({9, 37}, dtype, 1);
    const std::vector<int32_t> rows = {7, 0, 3};
    Tensor some = ctx.empty({3, 37}, dtype), all = ctx.empty({9, 37}, dtype);
    gather_rows(ctx, x, rows, some);
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t row = rows[static_cast<size_t>(i)];
      EXPECT_TRUE(same_bits(some.rows(i, i + 1), x.rows(row, row + 1)));
    }
    scatter_rows(ctx, some, rows, all);
    const Tensor zero = ctx.zeros({1, 37}, dtype);
    for (int64_t row = 0; row < 9; ++row) {
      const bool named = row == 7 || row == 0 || row == 3;
      EXPECT_TRUE(same_bits(all.rows(row, row + 1), named ? x.rows(row, row + 1) : zero)) << row;
    }
  }
}

TEST(RowsTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor x = ctx.zeros({4, 5}, DType::kF32), y = ctx.zeros({2, 5}, DType::kF32);
  Tensor half = ctx.zeros({2, 5}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(gather_rows(ctx, x, std::vector<int32_t>{1, 4}, y), "rows[1] is 4");
  EXPECT_INVALID_ARGUMENT(gather_rows(ctx, x, std::vector<int32_t>{1}, y), "y is [2, 5]");
  EXPECT_INVALID_ARGUMENT(scatter_rows(ctx, half, std::vector<int32_t>{1, 2}, x), "dy is bf16");
  EXPECT_INVALID_ARGUMENT(scatter_rows(ctx, y, std::vector<int32_t>{-1, 2}, x), "rows[0] is -1");
}

}  // namespace
}  // namespace moerl::kernels
