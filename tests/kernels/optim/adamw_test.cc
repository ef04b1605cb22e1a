#include "kernels/optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/optim/adamw_ref.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_doubles;

struct State {
  Tensor weight, m, v;
};

/// A step of one run.
void update(ExecContext& ctx, const AdamWStep& step, AdamWRun run) { adamw(ctx, step, {&run, 1}); }

State run_steps(ExecContext& ctx, int64_t count, int steps, float grad_scale) {
  State s{random_tensor({count}, DType::kF32, 1), ctx.zeros({count}, DType::kF32),
          ctx.zeros({count}, DType::kF32)};
  for (int step = 1; step <= steps; ++step) {
    const Tensor grad =
        random_tensor({count}, DType::kF32, 100 + static_cast<uint64_t>(step), -3, 3);
    AdamWStep config{.lr = 0.01f, .weight_decay = 0.1f, .grad_scale = grad_scale};
    config.bias_correction1 = static_cast<float>(1 - std::pow(0.9, step));
    config.bias_correction2 = static_cast<float>(1 - std::pow(0.95, step));
    update(ctx, config, {grad, s.weight, s.m, s.v});
  }
  return s;
}

class AdamWTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(AdamWTest, FollowsTheReferenceOverSteps) {
  constexpr int kSteps = 7;
  const int64_t count = GetParam();
  ExecContext ctx(2);
  const State got = run_steps(ctx, count, kSteps, 0.25f);
  const std::vector<double> start = to_doubles(random_tensor({count}, DType::kF32, 1));
  std::vector<std::vector<double>> grads;
  for (uint64_t step = 1; step <= kSteps; ++step)
    grads.push_back(to_doubles(random_tensor({count}, DType::kF32, 100 + step, -3, 3)));
  std::vector<double> weight, m, v;
  for (size_t i = 0; i < start.size(); ++i) {
    std::vector<double> g;
    for (const auto& grad : grads) g.push_back(0.25 * grad[i]);
    const ref::AdamWState s = ref::adamw(start[i], g, 0.01f, 0.9f, 0.95f, 1e-8f, 0.1f);
    weight.push_back(s.weight);
    m.push_back(s.m);
    v.push_back(s.v);
  }
  const testing::Tolerance tolerance = testing::sum_tolerance(DType::kF32, kSteps);
  EXPECT_TRUE(testing::all_near(got.weight, weight, tolerance));
  EXPECT_TRUE(testing::all_near(got.m, m, tolerance));
  EXPECT_TRUE(testing::all_near(got.v, v, tolerance));
}

TEST_P(AdamWTest, EveryLevelAndThreadCountGivesTheSameBits) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const State s = run_steps(ctx, GetParam(), 3, 1);
    const Tensor tensors[] = {s.weight, s.m, s.v};
    const double norm = sum_of_squares(ctx, tensors);
    return std::vector<Tensor>{
        s.weight, s.m, s.v,
        Tensor::from<float>(
            {2}, {static_cast<float>(norm), static_cast<float>(norm - static_cast<float>(norm))})};
  }));
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdamWTest, ::testing::Values(0, 1, 5, 16, 17, 100, 70001));

TEST(AdamWClosedFormTest, FirstStepMovesByTheLearningRate) {
  ExecContext ctx(1);
  const Tensor grad = Tensor::from<float>({3}, {4.0f, -0.5f, 0.0f});
  Tensor weight = Tensor::from<float>({3}, {1.0f, 1.0f, 1.0f});
  Tensor m = ctx.zeros({3}, DType::kF32), v = ctx.zeros({3}, DType::kF32);
  const AdamWStep step{.lr = 0.1f, .bias_correction1 = 0.1f, .bias_correction2 = 0.05f};
  update(ctx, step, {grad, weight, m, v});
  EXPECT_TRUE(testing::all_near(weight, {0.9, 1.1, 1.0}, testing::rounding_tolerance(DType::kF32)));
}

// Runs of several blocks, of none, with and without decay: each as if it were alone.
TEST(AdamWRunsTest, ManyRunsAreUpdatedAsIfEachWereAlone) {
  const AdamWStep step{.lr = 0.01f, .weight_decay = 0.1f};
  AdamWStep without = step;
  without.weight_decay = 0;
  ExecContext ctx(3);
  std::vector<AdamWRun> together, alone;
  for (int64_t count : {5, 70001, 0, 17}) {
    const auto seed = static_cast<uint64_t>(10 * together.size());
    AdamWRun run{random_tensor({count}, DType::kF32, seed + 1),
                 random_tensor({count}, DType::kF32, seed + 2), ctx.zeros({count}, DType::kF32),
                 ctx.zeros({count}, DType::kF32), count != 70001};
    alone.push_back({run.grad, run.weight.clone(), run.m.clone(), run.v.clone()});
    together.push_back(std::move(run));
  }
  adamw(ctx, step, together);
  for (size_t i = 0; i < alone.size(); ++i) {
    update(ctx, together[i].decays ? step : without, alone[i]);
    EXPECT_TRUE(testing::same_bits(together[i].weight, alone[i].weight)) << "run " << i;
    EXPECT_TRUE(testing::same_bits(together[i].m, alone[i].m)) << "run " << i;
    EXPECT_TRUE(testing::same_bits(together[i].v, alone[i].v)) << "run " << i;
  }
}

TEST(SumOfSquaresTest, SumsAllTensorsInDouble) {
  ExecContext ctx(2);
  const Tensor a = random_tensor({3, 7}, DType::kF32, 1),
               b = random_tensor({50001}, DType::kF32, 2), none = ctx.zeros({0}, DType::kF32),
               large = Tensor::from<float>({1}, {1e30f});
  double expected = 0;
  for (const Tensor* tensor : {&a, &b})
    for (double value : to_doubles(*tensor)) expected += value * value;
  const Tensor tensors[] = {a, none, b};
  EXPECT_NEAR(sum_of_squares(ctx, tensors), expected, 1e-12 * expected);
  const std::vector<double> blocks = block_squares(ctx, tensors);
  ASSERT_EQ(blocks.size(), 1u + 4u);
  EXPECT_EQ(blocks[0], sum_of_squares(ctx, {&a, 1}));
  const Tensor last = b.rows(3 * kSumBlock, 50001);
  EXPECT_EQ(blocks[4], sum_of_squares(ctx, {&last, 1}));
  EXPECT_DOUBLE_EQ(sum_of_squares(ctx, {&large, 1}), static_cast<double>(1e30f) * 1e30f);
  EXPECT_EQ(sum_of_squares(ctx, {}), 0);
}

TEST(SumOfSquaresTest, ShowsNan) {
  ExecContext ctx(2);
  Tensor grad = ctx.zeros({40000}, DType::kF32);
  grad.data<float>()[30000] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum_of_squares(ctx, {&grad, 1})));
}

TEST(AdamWArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor a = ctx.zeros({8}, DType::kF32), b = ctx.zeros({8}, DType::kF32),
         c = ctx.zeros({8}, DType::kF32), d = ctx.zeros({8}, DType::kF32);
  Tensor small = ctx.zeros({7}, DType::kF32), half = ctx.zeros({8}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(update(ctx, {}, {half, b, c, d}), "runs[0].grad is bf16");
  EXPECT_INVALID_ARGUMENT(update(ctx, {}, {a, small, c, d}), "runs[0].weight is [7]");
  EXPECT_INVALID_ARGUMENT(update(ctx, {}, {a, b, small, d}), "runs[0].m is [7]");
  EXPECT_INVALID_ARGUMENT(update(ctx, {}, {a, b, c, half}), "runs[0].v is bf16");
  EXPECT_INVALID_ARGUMENT(update(ctx, {.beta1 = 1}, {a, b, c, d}), "beta1 is 1");
  EXPECT_INVALID_ARGUMENT(update(ctx, {.eps = 0}, {a, b, c, d}), "eps is 0");
  EXPECT_INVALID_ARGUMENT(update(ctx, {.bias_correction2 = 0}, {a, b, c, d}),
                          "bias_correction2 is 0");
  const Tensor tensors[] = {a, half};
  EXPECT_INVALID_ARGUMENT(sum_of_squares(ctx, tensors), "grads[1] is bf16");
}

}  // namespace
}  // namespace moerl::kernels
