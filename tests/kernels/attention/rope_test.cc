#include "kernels/attention/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numbers>

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
  config.type = RopeScalingType::kYarn;
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

TEST(RopeFrequenciesTest, LinearDividesAll) {
  RopeConfig config;
  config.dim = 4;
  config.type = RopeScalingType::kLinear;
  config.factor = 8;
  EXPECT_THAT(rope_inverse_frequencies(config),
              ::testing::Pointwise(::testing::DoubleNear(1e-15), {0.125, 0.00125}));
}

// The wavelengths of Llama 3.1's rope_scaling: below 2048 kept, above 8192 stretched eightfold.
TEST(RopeFrequenciesTest, Llama3KeepsShortWavesAndStretchesLongOnes) {
  RopeConfig config;
  config.dim = 128;
  config.theta = 500000;
  RopeConfig plain = config;
  config.type = RopeScalingType::kLlama3;
  config.factor = 8;
  config.original_max_position_embeddings = 8192;
  const std::vector<double> f = rope_inverse_frequencies(plain),
                            got = rope_inverse_frequencies(config);
  int kept = 0, between = 0, stretched = 0;
  for (size_t i = 0; i < f.size(); ++i) {
    const double wave = 2 * std::numbers::pi / f[i];
    double expected = f[i];
    if (wave > 8192) {
      expected = f[i] / 8;
      ++stretched;
    } else if (wave > 2048) {
      const double smooth = (8192 / wave - 1) / 3;
      expected = (1 - smooth) * f[i] / 8 + smooth * f[i];
      ++between;
    } else {
      ++kept;
    }
    EXPECT_NEAR(got[i], expected, 1e-12 * expected) << i;
  }
  EXPECT_EQ(kept, 29);
  EXPECT_EQ(between, 6);
  EXPECT_EQ(stretched, 29);
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

TEST(RopeTableTest, AttentionFactorReplacesTheDerivedAmplitude) {
  RopeConfig config = deepseek_v3();
  config.mscale_all_dim = 0;
  EXPECT_NEAR(rope_table(config, 1).data<float>()[0], 0.1 * std::log(40) + 1, 1e-7);
  config.attention_factor = 1.25;
  EXPECT_EQ(rope_table(config, 1).data<float>()[0], 1.25f);
}

struct RopeCase {
  DType dtype;
  RopePairing pairing;
};
class RopeTest : public ::testing::TestWithParam<RopeCase> {
 protected:
  static constexpr int64_t kRows = 33, kHeads = 3, kWidth = 77, kFirst = 5;
  RopeTest() {
    config_.dim = 70;
    for (int32_t t = 0; t < kRows; ++t) positions_.push_back(t * 37 % 500);
    table_ = rope_table(config_, 500);
    x_ = testing::random_tensor({kRows, kHeads, kWidth}, GetParam().dtype, 1);
  }
  Tensor forward(int threads, Isa isa) {
    ExecContext ctx(threads, isa);
    Tensor y = x_.clone();
    rope_forward(ctx, table_, positions_, GetParam().pairing, kFirst, y);
    return y;
  }
  /// Reference of all rows; direction -1 is the inverse.
  std::vector<double> expected(double direction) const {
    std::vector<double> all = testing::to_doubles(x_);
    for (size_t row = 0; row < kRows * kHeads; ++row) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row) * kWidth + kFirst;
      std::vector<double> head(begin, begin + 70);
      ref::rope(head, direction * positions_[row / kHeads], rope_inverse_frequencies(config_),
                GetParam().pairing == RopePairing::kHalves);
      std::copy(head.begin(), head.end(), begin);
    }
    return all;
  }
  RopeConfig config_;
  std::vector<int32_t> positions_;
  Tensor table_, x_;
};
INSTANTIATE_TEST_SUITE_P(Types, RopeTest,
                         ::testing::Values(RopeCase{DType::kF32, RopePairing::kInterleaved},
                                           RopeCase{DType::kBF16, RopePairing::kInterleaved},
                                           RopeCase{DType::kF32, RopePairing::kHalves},
                                           RopeCase{DType::kBF16, RopePairing::kHalves}),
                         [](const auto& info) {
                           return dtype_name(info.param.dtype) +
                                  std::string(info.param.pairing == RopePairing::kHalves
                                                  ? "Halves"
                                                  : "Interleaved");
                         });

TEST_P(RopeTest, EqualsReferenceAndLeavesOtherColumns) {
  EXPECT_TRUE(testing::all_near(forward(1, detect_isa()), expected(1),
                                testing::sum_tolerance(GetParam().dtype, 2)));
}

TEST_P(RopeTest, BackwardIsTheInverseRotation) {
  ExecContext ctx(2);
  Tensor dx = x_.clone();
  rope_backward(ctx, table_, positions_, GetParam().pairing, kFirst, dx);
  EXPECT_TRUE(testing::all_near(dx, expected(-1), testing::sum_tolerance(GetParam().dtype, 2)));
}

TEST_P(RopeTest, BitsDoNotDependOnThreadsLevelOrBatch) {
  const Tensor one = forward(1, detect_isa());
  for (int threads : {1, 2, 3})
    for (Isa isa : testing::available_isas())
      EXPECT_TRUE(testing::same_bits(one, forward(threads, isa)));
  ExecContext ctx(1);
  for (int64_t t = 0; t < kRows; ++t) {
    Tensor row = x_.rows(t, t + 1).clone();
    const std::span<const int32_t> position(&positions_[static_cast<size_t>(t)], 1);
    rope_forward(ctx, table_, position, GetParam().pairing, kFirst, row);
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
    EXPECT_THAT([&] { rope_forward(ctx, table, positions, RopePairing::kHalves, first, x); },
                ThrowsMessage<std::invalid_argument>(HasSubstr("rope_forward: " + text)));
  };
  refused({0}, 0, "positions has 1 elements, expected 2");
  refused({0, 4}, 0, "positions[1] is 4, expected in [0, 4)");
  refused({-1, 0}, 0, "positions[0] is -1");
  refused({0, 0}, 3, "first is 3");
  Tensor none = Tensor::empty({0, 1, 10}, DType::kF32);
  EXPECT_NO_THROW(rope_forward(ctx, table, {}, RopePairing::kHalves, 0, none));
  config.dim = 7;
  EXPECT_THAT([&] { rope_inverse_frequencies(config); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("dim is 7")));
  config = {};
  config.type = RopeScalingType::kLlama3;
  config.high_freq_factor = 1;
  EXPECT_THAT([&] { rope_inverse_frequencies(config); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("high_freq_factor is 1")));
  config.type = RopeScalingType::kLinear;
  config.factor = 0.5;
  EXPECT_THAT([&] { rope_inverse_frequencies(config); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("factor is 0.5")));
}

}  // namespace
}  // namespace moerl::kernels
