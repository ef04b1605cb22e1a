#include "kernels/norm/bias.h"

#include <gtest/gtest.h>

#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_floats;

struct BiasCase {
  int64_t rows, width;
  DType dtype;
};
class BiasTest : public ::testing::TestWithParam<BiasCase> {
 protected:
  int64_t rows() const { return GetParam().rows; }
  int64_t width() const { return GetParam().width; }
  Tensor x_ = random_tensor({rows(), width()}, DType::kF32, 1);
  Tensor bias_ = random_tensor({width()}, DType::kF32, 2);
  Tensor dy_ = random_tensor({rows(), width()}, GetParam().dtype, 3);
};
INSTANTIATE_TEST_SUITE_P(Shapes, BiasTest,
                         ::testing::Values(BiasCase{0, 5, DType::kF32},
                                           BiasCase{1, 1, DType::kBF16},
                                           BiasCase{37, 16, DType::kF32},
                                           BiasCase{129, 83, DType::kBF16},
                                           BiasCase{3, 200, DType::kF32}));

TEST_P(BiasTest, ForwardRoundsTheSumOnce) {
  ExecContext ctx(2);
  Tensor y = ctx.empty({rows(), width()}, GetParam().dtype);
  bias_forward(ctx, x_, bias_, y);
  const std::vector<float> got = to_floats(y), x = to_floats(x_), bias = to_floats(bias_);
  for (size_t i = 0; i < got.size(); ++i) {
    const float sum = x[i] + bias[i % static_cast<size_t>(width())];
    ASSERT_EQ(got[i], GetParam().dtype == DType::kF32 ? sum : to_float(to_bf16(sum)));
  }
}

TEST_P(BiasTest, BackwardAddsTheColumnSums) {
  ExecContext ctx(2);
  Tensor dbias = bias_.clone();
  bias_backward(ctx, dy_, dbias);
  std::vector<double> expected = testing::to_doubles(bias_);
  const std::vector<float> dy = to_floats(dy_);
  for (size_t i = 0; i < dy.size(); ++i) expected[i % expected.size()] += double{dy[i]};
  EXPECT_TRUE(testing::all_near(dbias, expected, testing::sum_tolerance(DType::kF32, rows())));
}

TEST_P(BiasTest, TwoCallsEqualOne) {
  ExecContext ctx(2);
  Tensor whole = bias_.clone(), parts = bias_.clone();
  bias_backward(ctx, dy_, whole);
  bias_backward(ctx, dy_.rows(0, rows() / 3), parts);
  bias_backward(ctx, dy_.rows(rows() / 3, rows()), parts);
  EXPECT_TRUE(testing::same_bits(whole, parts));
}

TEST_P(BiasTest, EveryLevelAndThreadCountGivesTheSameBits) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    Tensor y = ctx.empty({rows(), width()}, GetParam().dtype), dbias = bias_.clone();
    bias_forward(ctx, x_, bias_, y);
    bias_backward(ctx, dy_, dbias);
    return std::vector<Tensor>{y, dbias};
  }));
}

TEST(BiasArgumentsTest, AreChecked) {
  ExecContext ctx(1);
  Tensor x = Tensor::zeros({2, 3}, DType::kF32), half = Tensor::zeros({2, 3}, DType::kBF16);
  Tensor bias = Tensor::zeros({3}, DType::kF32), four = Tensor::zeros({4}, DType::kF32);
  EXPECT_INVALID_ARGUMENT(bias_forward(ctx, half, bias, half), "x is bf16, expected f32");
  EXPECT_INVALID_ARGUMENT(bias_forward(ctx, x, four, x), "bias is [4], expected [3]");
  EXPECT_INVALID_ARGUMENT(bias_backward(ctx, half, four), "dbias is [4], expected [3]");
}

}  // namespace
}  // namespace moerl::kernels
