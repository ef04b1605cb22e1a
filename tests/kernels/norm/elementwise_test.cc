#include "kernels/norm/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/testing/copy_elements.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::random_values;
using testing::to_floats;

class ElementwiseTest : public ::testing::TestWithParam<int64_t> {
 protected:
  int64_t count() const { return GetParam(); }
  ExecContext ctx_{2};
};

TEST_P(ElementwiseTest, AddRoundsTheExactSumOnce) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor src = random_tensor({count()}, dtype, 1),
                 before = random_tensor({count()}, dtype, 2);
    Tensor dst = before.clone();
    add_inplace(ctx_, src, dst);
    const std::vector<float> a = to_floats(src), b = to_floats(before), sum = to_floats(dst);
    for (size_t i = 0; i < sum.size(); ++i)
      ASSERT_EQ(sum[i], dtype == DType::kF32 ? a[i] + b[i] : to_float(to_bf16(a[i] + b[i])));
  }
}

TEST_P(ElementwiseTest, CastRoundsToNearestEvenAndBackIsExact) {
  const Tensor wide = random_tensor({count()}, DType::kF32, 3, -100, 100);
  Tensor narrow = ctx_.empty({count()}, DType::kBF16), back = ctx_.empty({count()}, DType::kF32);
  cast(ctx_, wide, narrow);
  cast(ctx_, narrow, back);
  for (int64_t i = 0; i < count(); ++i) {
    ASSERT_EQ(narrow.data<bf16>()[i].bits, to_bf16(wide.data<float>()[i]).bits);
    ASSERT_EQ(back.data<float>()[i], to_float(narrow.data<bf16>()[i]));
  }
}

TEST_P(ElementwiseTest, EveryLevelAndThreadCountGivesTheSameBits) {
  const Tensor src = random_tensor({count()}, DType::kBF16, 1);
  const Tensor start = random_tensor({count()}, DType::kBF16, 2);
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    Tensor dst = start.clone(), wide = ctx.empty({count()}, DType::kF32);
    add_inplace(ctx, src, dst);
    cast(ctx, dst, wide);
    Tensor narrow = ctx.empty({count()}, DType::kBF16);
    cast(ctx, wide, narrow);
    return std::vector<Tensor>{dst, wide, narrow};
  }));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ElementwiseTest, ::testing::Values(0, 1, 15, 16, 17, 100, 40000));

TEST(CastTest, KeepsTheSpecialValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  ExecContext ctx(1);
  const Tensor wide = Tensor::from<float>(
      {5}, {infinity, -infinity, -0.0f, 3.4e38f, std::numeric_limits<float>::quiet_NaN()});
  Tensor narrow = ctx.empty({5}, DType::kBF16);
  cast(ctx, wide, narrow);
  const std::vector<float> got = to_floats(narrow);
  EXPECT_EQ(got[0], infinity);
  EXPECT_EQ(got[1], -infinity);
  EXPECT_TRUE(std::signbit(got[2]) && got[2] == 0);
  EXPECT_EQ(got[3], infinity);  // beyond the largest bf16
  EXPECT_TRUE(std::isnan(got[4]));
}

TEST(FillRowsTest, IsTheCastOfTheWhole) {
  ExecContext ctx(2);
  for (const Shape& shape : {Shape{0, 3}, Shape{3, 0}, Shape{5, 7}, Shape{70, (1 << 14) + 1}}) {
    const Tensor whole = random_tensor(shape, DType::kF32, 4);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Tensor expected = ctx.empty(shape, dtype), got = ctx.empty(shape, dtype);
      cast(ctx, whole, expected);
      fill_rows(
          ctx,
          [&](int64_t begin, int64_t end, DType type, void* out) {
            testing::copy_elements(whole.data<float>() + begin * shape[1], (end - begin) * shape[1],
                                   type, out);
          },
          got);
      EXPECT_TRUE(testing::same_bits(got, expected)) << shape << dtype_name(dtype);
    }
  }
}

TEST(ElementwiseArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor a = ctx.zeros({3, 8}, DType::kF32), b = ctx.zeros({3, 7}, DType::kF32);
  Tensor half = ctx.zeros({3, 8}, DType::kBF16), ids = ctx.zeros({3, 8}, DType::kI32);
  EXPECT_INVALID_ARGUMENT(add_inplace(ctx, a, b), "dst is [3, 7]");
  EXPECT_INVALID_ARGUMENT(add_inplace(ctx, a, half), "dst is bf16");
  EXPECT_INVALID_ARGUMENT(cast(ctx, a, b), "dst is [3, 7]");
  EXPECT_INVALID_ARGUMENT(cast(ctx, ids, a), "src is i32");
}

}  // namespace
}  // namespace moerl::kernels
