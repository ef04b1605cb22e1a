#include "kernels/attention/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/attention/rope_ref.h"
#include "tests/testing/isas.h"
#include "tests/testing/random_tensors.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

RopeConfig deepseek_v3() {
  RopeConfig config;
  config.yarn = true;
  config.factor = 40;
  config.mscale = 1;
  config.mscale_all_dim = 1;
  return config;
}

TEST(RopeFrequenciesTest, PlainArePowersOfTheta) {
  RopeConfig config;
  config.dim = 8;
  EXPECT_THAT(rope_inverse_frequencies(config),
              ::testing::Pointwise(::testing::DoubleNear(1e-15), {1.0, 0.1, 0.01, 0.001}));
}

TEST(RopeFrequenciesTest, YarnGivesThePublishedValuesOfDeepSeekV3) {
  const std::vector<double> f = rope_inverse_frequencies(deepseek_v3());
  ASSERT_EQ(f.size(), 32u);
  const std::pair<size_t, double> expected[] = {
      {0, 1.0},
      {10, 5.623413252e-2},
      {11, 3.900692657e-2},
      {12, 2.687936011e-2},
      {13, 1.837814622e-2},
      {14, 1.244795587e-2},
      {15, 8.334508951e-3},
      {16, 5.5e-3},
      {17, 3.561997494e-3},
      {18, 2.249365301e-3},
      {19, 1.370513636e-3},
      {20, 7.905694150e-4},
      {21, 4.149903985e-4},
      {22, 1.778279410e-4},
      {23, 3.333803580e-5},
      {24, 2.5e-5},
      {31, 3.333803580e-6},
  };
  for (const auto& [i, value] : expected) EXPECT_NEAR(f[i], value, 1e-9 * value) << i;
}

TEST(RopeSoftmaxScaleTest, IsThatOfDeepSeekV3) {
  EXPECT_NEAR(rope_softmax_scale(deepseek_v3()) / std::sqrt(192.0), 0.1352337789, 1e-10);
  EXPECT_EQ(rope_softmax_scale(RopeConfig{}), 1.0);
}

TEST(RopeTableTest, HoldsCosinesAndSinesTimesTheAmplitude) {
  RopeConfig config = deepseek_v3();
  config.mscale = 0.707;
  const double amplitude = (0.0707 * std::log(40) + 1) / (0.1 * std::log(40) + 1);
  const Tensor table = rope_table(config, 1001);
  ASSERT_EQ(table.shape(), (Shape{1001, 64}));
  const std::vector<double> f = rope_inverse_frequencies(config);
  for (size_t position : {0u, 1u, 1000u})
    for (size_t j = 0; j < 32; ++j) {
      const double angle = static_cast<double>(position) * f[j];
      EXPECT_NEAR(table.data<float>()[position * 64 + 2 * j], amplitude * std::cos(angle), 1e-7);
      EXPECT_NEAR(table.data<float>()[position * 64 + 2 * j + 1], amplitude * std::sin(angle),
                  1e-7);
    }
}

class RopeTest : public ::testing::TestWithParam<DType> {
 protected:
  static constexpr int64_t kRows = 33, kHeads = 3, kWidth = 77, kFirst = 5;
  RopeTest() {
    config_.dim = 70;
    for (int32_t t = 0; t < kRows; ++t) positions_.push_back(t * 37 % 500);
    table_ = rope_table(config_, 500);
    x_ = testing::random_tensor({kRows, kHeads, kWidth}, GetParam(), 1);
  }
  Tensor forward(int threads, Isa isa) {
    ExecContext ctx(threads, isa);
    Tensor y = x_.clone();
    rope_forward(ctx, table_, positions_, kFirst, y);
    return y;
  }
  /// Reference of all rows; direction -1 is the inverse.
  std::vector<double> expected(double direction) const {
    std::vector<double> all = testing::to_doubles(x_);
    for (size_t row = 0; row < kRows * kHeads; ++row) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row) * kWidth + kFirst;
      std::vector<double> head(begin, begin + 70);
      ref::rope(head, direction * positions_[row / kHeads], rope_inverse_frequencies(config_));
      std::copy(head.begin(), head.end(), begin);
    }
    return all;
  }
  RopeConfig config_;
  std::vector<int32_t> positions_;
  Tensor table_, x_;
};
INSTANTIATE_TEST_SUITE_P(Types, RopeTest, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return dtype_name(info.param); });

TEST_P(RopeTest, EqualsReferenceAndLeavesOtherColumns) {
  EXPECT_TRUE(testing::all_near(forward(1, detect_isa()), expected(1),
                                testing::sum_tolerance(GetParam(), 2)));
}

TEST_P(RopeTest, BackwardIsTheInverseRotation) {
  ExecContext ctx(2);
  Tensor dx = x_.clone();
  rope_backward(ctx, table_, positions_, kFirst, dx);
  EXPECT_TRUE(testing::all_near(dx, expected(-1), testing::sum_tolerance(GetParam(), 2)));
}

TEST_P(RopeTest, BitsDoNotDependOnThreadsLevelOrBatch) {
  const Tensor one = forward(1, detect_isa());
  for (int threads : {1, 2, 3})
    for (Isa isa : testing::available_isas())
      EXPECT_TRUE(testing::same_bits(one, forward(threads, isa)));
  ExecContext ctx(1);
  for (int64_t t = 0; t < kRows; ++t) {
    Tensor row = x_.rows(t, t + 1).clone();
    rope_forward(ctx, table_, {&positions_[static_cast<size_t>(t)], 1}, kFirst, row);
    EXPECT_TRUE(testing::same_bits(row, one.rows(t, t + 1)));
  }
}

TEST(RopeArgumentsTest, AreChecked) {
  ExecContext ctx(1);
  RopeConfig config;
  config.dim = 8;
  const Tensor table = rope_table(config, 4);
  Tensor x = Tensor::zeros({2, 1, 10}, DType::kF32);
  auto refused = [&](std::vector<int32_t> positions, int64_t first, const std::string& text) {
    EXPECT_THAT([&] { rope_forward(ctx, table, positions, first, x); },
                ThrowsMessage<std::invalid_argument>(HasSubstr("rope_forward: " + text)));
  };
  refused({0}, 0, "positions has 1 elements, expected 2");
  refused({0, 4}, 0, "positions[1] is 4, expected in [0, 4)");
  refused({-1, 0}, 0, "positions[0] is -1");
  refused({0, 0}, 3, "first is 3");
  Tensor none = Tensor::empty({0, 1, 10}, DType::kF32);
  EXPECT_NO_THROW(rope_forward(ctx, table, {}, 0, none));
  config.dim = 7;
  EXPECT_THAT([&] { rope_inverse_frequencies(config); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("dim is 7")));
}

}  // namespace
}  // namespace moerl::kernels
