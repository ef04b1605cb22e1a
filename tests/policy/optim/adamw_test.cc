#include "policy/optim/adamw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "common/error.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

/// A matrix, a norm and a buffer, with gradients of a seed.
struct Parameters {
  Parameter matrix{"w", random_tensor({5, 7}, DType::kF32, 1), Tensor::zeros({5, 7}, DType::kF32)};
  Parameter norm{"n", random_tensor({6}, DType::kF32, 2), Tensor::zeros({6}, DType::kF32)};
  Parameter buffer{"b", random_tensor({4}, DType::kF32, 3), {}, true};
  std::vector<Parameter*> all() { return {&matrix, &norm, &buffer}; }
  void set_gradients(uint64_t seed) {
    matrix.grad = random_tensor({5, 7}, DType::kF32, seed);
    norm.grad = random_tensor({6}, DType::kF32, seed + 100);
  }
};

/// AdamW of one tensor in double precision.
struct Reference {
  std::vector<double> w, m, v;
  void step(const std::vector<double>& g, double scale, double lr, double decay, int count,
            const OptimConfig& c) {
    m.resize(w.size()), v.resize(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const double gi = g[i] * scale;
      m[i] = c.beta1 * m[i] + (1 - c.beta1) * gi;
      v[i] = c.beta2 * v[i] + (1 - c.beta2) * gi * gi;
      const double mh = m[i] / (1 - std::pow(c.beta1, count));
      const double vh = v[i] / (1 - std::pow(c.beta2, count));
      w[i] -= lr * (mh / (std::sqrt(vh) + c.eps) + decay * w[i]);
    }
  }
};

TEST(AdamWTest, FollowsTheFormulaWithClippingAndDecayOfMatricesOnly) {
  ExecContext ctx(2);
  Parameters p;
  const OptimConfig config{.weight_decay = 0.1, .grad_clip = 1.5};
  AdamW optimizer(p.all(), config);
  Reference matrix{to_doubles(p.matrix.value), {}, {}}, norm{to_doubles(p.norm.value), {}, {}};
  const std::vector<float> buffer = to_floats(p.buffer.value);
  for (int count = 1; count <= 4; ++count) {
    p.set_gradients(static_cast<uint64_t>(count));
    const std::vector<double> gm = to_doubles(p.matrix.grad), gn = to_doubles(p.norm.grad);
    double squares = 0;
    for (double g : gm) squares += g * g;
    for (double g : gn) squares += g * g;
    const double lr = 0.01 * count;
    EXPECT_NEAR(optimizer.step(ctx, lr), std::sqrt(squares), 1e-9);
    const double scale = std::min(1.0, 1.5 / std::sqrt(squares));
    matrix.step(gm, scale, lr, 0.1, count, config);
    norm.step(gn, scale, lr, 0, count, config);
    for (size_t i = 0; i < matrix.w.size(); ++i)
      EXPECT_NEAR(p.matrix.value.data<float>()[i], matrix.w[i], 1e-5);
    for (size_t i = 0; i < norm.w.size(); ++i)
      EXPECT_NEAR(p.norm.value.data<float>()[i], norm.w[i], 1e-5);
    EXPECT_EQ(to_floats(p.matrix.grad), std::vector<float>(35, 0.0f));
  }
  EXPECT_EQ(optimizer.num_steps(), 4);
  EXPECT_EQ(to_floats(p.buffer.value), buffer);
}

TEST(AdamWTest, ZeroGradClipMeansNone) {
  ExecContext ctx(1);
  Parameters clipped, free;
  AdamW tight(clipped.all(), {.eps = 1e-2, .grad_clip = 1e-3}),
      none(free.all(), {.eps = 1e-2, .grad_clip = 0});
  clipped.set_gradients(1);
  free.set_gradients(1);
  EXPECT_EQ(tight.step(ctx, 0.1), none.step(ctx, 0.1));
  EXPECT_FALSE(same_bits(clipped.matrix.value, free.matrix.value));
}

TEST(AdamWTest, NonFiniteGradientNamesTheTensorAndChangesNothing) {
  ExecContext ctx(1);
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Parameters p;
    AdamW optimizer(p.all(), {});
    p.set_gradients(1);
    p.norm.grad.data<float>()[3] = bad;
    const Tensor before = p.matrix.value.clone();
    try {
      optimizer.step(ctx, 0.1);
      FAIL() << "expected NumericalError";
    } catch (const NumericalError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("the gradient of n is not finite"));
    }
    EXPECT_TRUE(same_bits(p.matrix.value, before));
    EXPECT_EQ(optimizer.num_steps(), 0);
  }
}

TEST(AdamWTest, SavedStateContinuesBitForBit) {
  ExecContext ctx(1);
  const fs::path path = fs::temp_directory_path() / "moerl_adamw_test.safetensors";
  const OptimConfig config{.weight_decay = 0.1};
  Parameters whole, resumed;
  AdamW a(whole.all(), config), b(resumed.all(), config);
  auto step = [&](Parameters& p, AdamW& optimizer, uint64_t seed) {
    p.set_gradients(seed);
    optimizer.step(ctx, 0.01);
  };
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    step(whole, a, seed);
    step(resumed, b, seed);
  }
  b.save(path);
  AdamW c(resumed.all(), config);
  c.load(path);
  EXPECT_EQ(c.num_steps(), 3);
  step(whole, a, 4);
  step(resumed, c, 4);
  EXPECT_TRUE(same_bits(whole.matrix.value, resumed.matrix.value));
  EXPECT_TRUE(same_bits(whole.norm.value, resumed.norm.value));
  c.reset(config);
  EXPECT_EQ(c.num_steps(), 0);
  step(whole, a, 5);
  step(resumed, c, 5);
  EXPECT_FALSE(same_bits(whole.matrix.value, resumed.matrix.value));
  fs::remove(path);
}

TEST(AdamWTest, LoadRefusesTheStateOfAnotherModel) {
  const fs::path path = fs::temp_directory_path() / "moerl_adamw_other_test.safetensors";
  Parameters p;
  AdamW(p.all(), {}).save(path);
  Parameter other{"w", Tensor::zeros({2, 2}, DType::kF32), Tensor::zeros({2, 2}, DType::kF32)};
  Parameter third{"x", Tensor::zeros({2}, DType::kF32), Tensor::zeros({2}, DType::kF32)};
  AdamW optimizer({&other, &third}, {});
  try {
    optimizer.load(path);
    FAIL() << "expected IoError";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("w is [5, 7], expected [2, 2]"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("x is missing"));
  }
  fs::remove(path);
}

TEST(AdamWTest, NeedsGradients) {
  Parameter p{"w", Tensor::zeros({2, 2}, DType::kF32), {}};
  EXPECT_INVALID_ARGUMENT(AdamW({&p}, {}), "w has no gradient");
}

TEST(AdamWTest, LowersTheLossOfAModel) {
  ExecContext ctx(2);
  const auto model = make_model(ctx, tiny_config(), DType::kBF16);
  AdamW optimizer(model->parameters(), {});
  const auto sequences = random_sequences({24, 9}, tiny_config());
  const double first = loss_and_gradients(ctx, *model, sequences).loss;
  double last = first;
  for (int i = 0; i < 12; ++i) {
    optimizer.step(ctx, 5e-3);
    model->pack(ctx);
    last = loss_and_gradients(ctx, *model, sequences).loss;
  }
  EXPECT_LT(last, 0.5 * first);
}

}  // namespace
}  // namespace moerl::testing
