#include "kernels/moe/topk_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/moe/topk_gate_ref.h"
#include "tests/testing/isas.h"
#include "tests/testing/random_tensors.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::same_bits;
using ::testing::ThrowsMessage;

struct Routing {
  Tensor scores, idx, weights;
  std::vector<int32_t> chosen(int64_t t) const {
    const int32_t* row = idx.data<int32_t>() + t * idx.dim(1);
    return {row, row + idx.dim(1)};
  }
};

Routing route(const Tensor& logits, const Tensor& bias, const GateConfig& config, int threads = 1,
              Isa isa = detect_isa()) {
  ExecContext ctx(threads, isa);
  const Shape chosen = {logits.dim(0), config.num_experts_per_tok};
  Routing r{Tensor::empty(logits.shape(), DType::kF32), Tensor::empty(chosen, DType::kI32),
            Tensor::empty(chosen, DType::kF32)};
  topk_gate_forward(ctx, logits, &bias, config, r.scores, r.idx, r.weights);
  return r;
}

/// One row of biased scores: logits 0, so that every score is 1/2, and this bias.
std::vector<int32_t> choose_by_bias(const std::vector<float>& bias, const GateConfig& config) {
  const auto experts = static_cast<int64_t>(bias.size());
  return route(Tensor::zeros({1, experts}, DType::kF32), Tensor::from<float>({experts}, bias),
               config)
      .chosen(0);
}

GateConfig gate(int64_t experts, int64_t topk, int64_t groups = 1, int64_t topk_groups = 1) {
  GateConfig config;
  config.n_routed_experts = experts;
  config.num_experts_per_tok = topk;
  config.n_group = groups;
  config.topk_group = topk_groups;
  return config;
}
ref::Gate ref_gate(const GateConfig& c) {
  auto size = [](int64_t n) { return static_cast<size_t>(n); };
  return {size(c.n_routed_experts),
          size(c.num_experts_per_tok),
          size(c.n_group),
          size(c.topk_group),
          c.norm_topk_prob,
          c.routed_scaling_factor,
          c.scoring == GateScoring::kSoftmax,
          c.group_worth == GroupWorth::kMax};
}

TEST(TopkGateTest, OrdersByDescendingBiasedScore) {
  EXPECT_THAT(choose_by_bias({0, 3, 1, 2}, gate(4, 3)), ElementsAre(1, 3, 2));
}
TEST(TopkGateTest, BreaksTiesTowardsSmallerIndex) {
  EXPECT_THAT(choose_by_bias({0, 1, 1, 0, 1}, gate(5, 4)), ElementsAre(1, 2, 4, 0));
  EXPECT_THAT(choose_by_bias({0, 0, 0, 0}, gate(4, 2)), ElementsAre(0, 1));
}
TEST(TopkGateTest, BreaksTiesOfGroupsTowardsSmallerIndex) {
  // All groups are worth 3; the kept ones are 0 and 1, although 2 holds the largest expert.
  EXPECT_THAT(choose_by_bias({1, 2, 2, 1, 3, 0}, gate(6, 3, 3, 2)), ElementsAre(1, 2, 0));
}
TEST(TopkGateTest, AGroupIsWorthItsTwoBestNotItsBest) {
  // Group 0: 5 + 0; group 1: 3 + 3.
  EXPECT_THAT(choose_by_bias({5, 0, 0, 3, 3, 0}, gate(6, 2, 2, 1)), ElementsAre(3, 4));
}
TEST(TopkGateTest, AGroupMayBeWorthItsBest) {
  GateConfig config = gate(6, 2, 2, 1);
  config.group_worth = GroupWorth::kMax;
  EXPECT_THAT(choose_by_bias({5, 0, 0, 3, 3, 0}, config), ElementsAre(0, 1));
}
TEST(TopkGateTest, DroppedGroupsLoseToNegativeScores) {
  // With 0 in place of -inf the experts of the dropped group 1 would win.
  EXPECT_THAT(choose_by_bias({-2, -3, -8, -9}, gate(4, 2, 2, 1)), ElementsAre(0, 1));
}
TEST(TopkGateTest, ExpertsAtMinusInfinityComeLast) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_THAT(choose_by_bias({-inf, 1, -inf, -inf}, gate(4, 3)), ElementsAre(1, 0, 2));
}
TEST(TopkGateTest, GroupsOfOneAreWorthTheirExpert) {
  EXPECT_THAT(choose_by_bias({1, 4, 2, 3}, gate(4, 2, 4, 2)), ElementsAre(1, 3));
}
TEST(TopkGateTest, AllExpertsMayBeChosen) {
  const Tensor logits = random_tensor({3, 5}, DType::kF32, 1);
  const Routing r = route(logits, Tensor::zeros({5}, DType::kF32), gate(5, 5));
  for (int64_t t = 0; t < 3; ++t)
    EXPECT_THAT(r.chosen(t), ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
}
TEST(TopkGateTest, BiasChoosesButDoesNotWeigh) {
  GateConfig config = gate(4, 2);
  config.routed_scaling_factor = 2.5f;
  const Tensor logits = Tensor::from<float>({1, 4}, {std::log(3.0f), 0, 0, 0});
  const Routing r = route(logits, Tensor::from<float>({4}, {0, 0, 7, 0}), config);
  EXPECT_THAT(r.chosen(0), ElementsAre(2, 0));
  // Scores 1/2 and 3/4.
  EXPECT_NEAR(r.weights.data<float>()[0], 2.5 * 0.4, 1e-6);
  EXPECT_NEAR(r.weights.data<float>()[1], 2.5 * 0.6, 1e-6);
  config.norm_topk_prob = false;
  const Routing raw = route(logits, Tensor::from<float>({4}, {0, 0, 7, 0}), config);
  EXPECT_NEAR(raw.weights.data<float>()[0], 2.5 * 0.5, 1e-6);
  EXPECT_NEAR(raw.weights.data<float>()[1], 2.5 * 0.75, 1e-6);
}

TEST(TopkGateTest, SoftmaxScoresSumToOneAndSurviveLargeLogits) {
  GateConfig config = gate(19, 2);
  config.scoring = GateScoring::kSoftmax;
  config.norm_topk_prob = false;
  std::vector<float> logits(19, 1000.0f);
  logits[18] = 1000.0f + std::log(2.0f);
  const Routing r =
      route(Tensor::from<float>({1, 19}, logits), Tensor::zeros({19}, DType::kF32), config);
  EXPECT_THAT(r.chosen(0), ElementsAre(18, 0));
  EXPECT_NEAR(r.weights.data<float>()[0], 0.1, 1e-5);  // 1000 + log 2 is rounded to 2^-14
  EXPECT_NEAR(r.weights.data<float>()[1], 0.05, 1e-5);
}
TEST(TopkGateTest, NoBiasIsABiasOfZero) {
  ExecContext ctx(1);
  const Tensor logits = random_tensor({9, 12}, DType::kF32, 5, -2, 2);
  for (GateScoring scoring : {GateScoring::kSigmoid, GateScoring::kSoftmax}) {
    GateConfig config = gate(12, 3, 4, 2);
    config.scoring = scoring;
    const Routing with = route(logits, Tensor::zeros({12}, DType::kF32), config);
    Routing without = route(logits, Tensor::from<float>({12}, std::vector<float>(12, 9)), config);
    topk_gate_forward(ctx, logits, nullptr, config, without.scores, without.idx, without.weights);
    EXPECT_TRUE(same_bits(with.idx, without.idx));
    EXPECT_TRUE(same_bits(with.weights, without.weights));
  }
}

struct GateCase {
  int64_t experts, topk, groups, topk_groups;
  bool normalise;
  GateScoring scoring = GateScoring::kSigmoid;
  GroupWorth worth = GroupWorth::kTopTwoSum;
};
class TopkGateShapesTest : public ::testing::TestWithParam<GateCase> {
 protected:
  static constexpr int64_t kTokens = 70;
  TopkGateShapesTest() {
    const GateCase& c = GetParam();
    config_ = gate(c.experts, c.topk, c.groups, c.topk_groups);
    config_.norm_topk_prob = c.normalise;
    config_.routed_scaling_factor = 1.5f;
    config_.scoring = c.scoring;
    config_.group_worth = c.worth;
    logits_ = random_tensor({kTokens, c.experts}, DType::kF32, 1, -4, 4);
    bias_ = random_tensor({c.experts}, DType::kF32, 2, -2, 0.5);
    extra_ = random_tensor({kTokens, c.experts}, DType::kF32, 3);
    dweights_ = random_tensor({kTokens, c.topk}, DType::kF32, 4);
  }
  std::vector<double> row(const Tensor& x, int64_t t) const {
    return testing::to_doubles(x.rows(t, t + 1));
  }
  Tensor backward(const Routing& r, int threads = 1, Isa isa = detect_isa(), bool extra = true) {
    ExecContext ctx(threads, isa);
    Tensor dlogits = random_tensor(logits_.shape(), DType::kF32, 9);
    topk_gate_backward(ctx, r.scores, r.idx, config_, dweights_, extra ? &extra_ : nullptr,
                       dlogits);
    return dlogits;
  }
  GateConfig config_;
  Tensor logits_, bias_, extra_, dweights_;
};
INSTANTIATE_TEST_SUITE_P(
    Shapes, TopkGateShapesTest,
    ::testing::Values(GateCase{256, 8, 8, 4, true}, GateCase{32, 4, 1, 1, true},
                      GateCase{18, 3, 6, 2, true}, GateCase{7, 7, 1, 1, true},
                      GateCase{20, 5, 20, 6, false}, GateCase{1, 1, 1, 1, true},
                      GateCase{128, 8, 1, 1, true, GateScoring::kSoftmax},
                      GateCase{64, 6, 1, 1, false, GateScoring::kSoftmax},
                      GateCase{160, 6, 8, 3, false, GateScoring::kSoftmax, GroupWorth::kMax},
                      GateCase{21, 4, 7, 3, true, GateScoring::kSoftmax, GroupWorth::kMax},
                      GateCase{1, 1, 1, 1, false, GateScoring::kSoftmax}));

TEST_P(TopkGateShapesTest, ForwardEqualsReference) {
  const Routing r = route(logits_, bias_, config_);
  for (int64_t t = 0; t < kTokens; ++t) {
    const ref::GateOutput expected =
        ref::topk_gate(ref_gate(config_), row(logits_, t), testing::to_doubles(bias_));
    const std::vector<int32_t> chosen = r.chosen(t);
    EXPECT_EQ(std::vector<size_t>(chosen.begin(), chosen.end()), expected.index) << "row " << t;
    EXPECT_TRUE(testing::all_near(r.scores.rows(t, t + 1), expected.scores,
                                  testing::rounding_tolerance(DType::kF32)));
    EXPECT_TRUE(testing::all_near(r.weights.rows(t, t + 1), expected.weights,
                                  testing::rounding_tolerance(DType::kF32)));
  }
}

TEST_P(TopkGateShapesTest, BackwardEqualsReference) {
  const Routing r = route(logits_, bias_, config_);
  for (bool extra : {false, true}) {
    const Tensor got = backward(r, 1, detect_isa(), extra);
    for (int64_t t = 0; t < kTokens; ++t) {
      const std::vector<int32_t> chosen = r.chosen(t);
      const std::vector<double> none(static_cast<size_t>(GetParam().experts), 0.0);
      EXPECT_TRUE(testing::all_near(
          got.rows(t, t + 1),
          ref::topk_gate_backward(ref_gate(config_), row(r.scores, t),
                                  {chosen.begin(), chosen.end()}, row(dweights_, t),
                                  extra ? row(extra_, t) : none),
          testing::sum_tolerance(DType::kF32, GetParam().topk)));
    }
  }
}

TEST_P(TopkGateShapesTest, BitsDoNotDependOnThreadsLevelOrBatch) {
  const Routing r = route(logits_, bias_, config_);
  const Tensor dlogits = backward(r);
  for (int threads : {1, 2, 3})
    for (Isa isa : testing::available_isas()) {
      const Routing other = route(logits_, bias_, config_, threads, isa);
      EXPECT_TRUE(same_bits(r.scores, other.scores));
      EXPECT_TRUE(same_bits(r.idx, other.idx));
      EXPECT_TRUE(same_bits(r.weights, other.weights));
      EXPECT_TRUE(same_bits(dlogits, backward(r, threads, isa)));
    }
  for (int64_t t = 0; t < kTokens; ++t) {
    const Routing one = route(logits_.rows(t, t + 1), bias_, config_);
    EXPECT_TRUE(same_bits(one.idx, r.idx.rows(t, t + 1)));
    EXPECT_TRUE(same_bits(one.weights, r.weights.rows(t, t + 1)));
  }
}

class TopkGateReferenceTest : public ::testing::TestWithParam<ref::Gate> {};
INSTANTIATE_TEST_SUITE_P(Gates, TopkGateReferenceTest,
                         ::testing::Values(ref::Gate{9, 3, 3, 2, true, 2.5, false, false},
                                           ref::Gate{9, 3, 3, 2, false, 2.5, true, true},
                                           ref::Gate{9, 3, 1, 1, true, 1, true, false}));

TEST_P(TopkGateReferenceTest, GradientIsThatOfFiniteDifferences) {
  const ref::Gate gate = GetParam();
  const std::vector<float> drawn = testing::random_values(30, 3);
  std::vector<double> logits(drawn.begin(), drawn.begin() + 9);
  const std::vector<double> bias(drawn.begin() + 9, drawn.begin() + 18);
  const std::vector<double> dweights(drawn.begin() + 18, drawn.begin() + 21);
  const std::vector<double> dscores(drawn.begin() + 21, drawn.end());
  const ref::GateOutput out = ref::topk_gate(gate, logits, bias);
  const std::vector<double> grad =
      ref::topk_gate_backward(gate, out.scores, out.index, dweights, dscores);
  auto loss = [&] {
    const ref::GateOutput o = ref::topk_gate(gate, logits, bias);
    EXPECT_EQ(o.index, out.index);
    return std::inner_product(dweights.begin(), dweights.end(), o.weights.begin(), 0.0) +
           std::inner_product(dscores.begin(), dscores.end(), o.scores.begin(), 0.0);
  };
  for (size_t e = 0; e < 9; ++e)
    EXPECT_NEAR(grad[e], testing::central_difference(loss, logits[e]), 1e-8) << e;
}

class BalanceLossTest : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 150, kBegin = 3, kEnd = 140, kExperts = 19, kTopk = 3;
  BalanceLossTest() {
    const Tensor logits = random_tensor({kTokens, kExperts}, DType::kF32, 1, -3, 3);
    routing_ = route(logits, Tensor::zeros({kExperts}, DType::kF32), gate(kExperts, kTopk));
  }
  double loss(Tensor* dscores, int threads = 1, Isa isa = detect_isa()) {
    ExecContext ctx(threads, isa);
    return sequence_balance_loss(ctx, routing_.scores, routing_.idx, kBegin, kEnd, kAlpha, dscores);
  }
  static constexpr double kAlpha = 0.7;
  Routing routing_;
};

TEST_F(BalanceLossTest, EqualsReferenceAndItsFiniteDifferences) {
  std::vector<std::vector<double>> scores;
  std::vector<std::vector<size_t>> index;
  for (int64_t t = kBegin; t < kEnd; ++t) {
    scores.push_back(testing::to_doubles(routing_.scores.rows(t, t + 1)));
    const std::vector<int32_t> chosen = routing_.chosen(t);
    index.emplace_back(chosen.begin(), chosen.end());
  }
  const Tensor before = random_tensor({kTokens, kExperts}, DType::kF32, 5);
  Tensor dscores = before.clone();
  EXPECT_NEAR(loss(&dscores), ref::sequence_balance_loss(scores, index, kAlpha), 1e-12);
  const std::vector<float> got = testing::to_floats(dscores), start = testing::to_floats(before);
  for (size_t t : {size_t{0}, size_t{1}, size_t{136}})
    for (size_t e = 0; e < kExperts; ++e) {
      const double kept = scores[t][e], h = 1e-4;
      scores[t][e] = kept + h;
      const double up = ref::sequence_balance_loss(scores, index, kAlpha);
      scores[t][e] = kept - h;
      const double down = ref::sequence_balance_loss(scores, index, kAlpha);
      scores[t][e] = kept;
      const size_t at = (t + kBegin) * kExperts + e;
      EXPECT_NEAR(got[at], start[at] + (up - down) / (2 * h), 2e-7) << t << ", " << e;
    }
  for (int64_t t = 0; t < kTokens; ++t)
    if (t < kBegin || t >= kEnd) {
      EXPECT_TRUE(same_bits(dscores.rows(t, t + 1), before.rows(t, t + 1)));
    }
}

TEST_F(BalanceLossTest, GradientIsLargeEnoughToBeTested) {
  Tensor dscores = Tensor::zeros({kTokens, kExperts}, DType::kF32);
  loss(&dscores);
  double largest = 0;
  for (float g : testing::to_floats(dscores)) largest = std::max(largest, std::abs(double{g}));
  EXPECT_GT(largest, 1e-5);
}

TEST_F(BalanceLossTest, PerfectBalanceCostsAlpha) {
  // Uniform scores give P_i = 1/E whatever f is, and sum f_i = E.
  ExecContext ctx(1);
  const Tensor uniform = Tensor::from<float>({4, 2}, std::vector<float>(8, 0.5f));
  const Tensor idx = Tensor::from<int32_t>({4, 1}, {0, 1, 0, 1});
  EXPECT_DOUBLE_EQ(sequence_balance_loss(ctx, uniform, idx, 0, 4, 0.25, nullptr), 0.25);
  EXPECT_EQ(sequence_balance_loss(ctx, uniform, idx, 2, 2, 0.25, nullptr), 0.0);
}

TEST_F(BalanceLossTest, BitsDoNotDependOnThreadsOrLevel) {
  Tensor first = Tensor::zeros({kTokens, kExperts}, DType::kF32);
  const double expected = loss(&first);
  EXPECT_EQ(loss(nullptr), expected);
  for (int threads : {1, 2, 3})
    for (Isa isa : testing::available_isas()) {
      Tensor dscores = Tensor::zeros({kTokens, kExperts}, DType::kF32);
      EXPECT_EQ(loss(&dscores, threads, isa), expected);
      EXPECT_TRUE(same_bits(dscores, first));
    }
}

TEST(TopkGateArgumentsTest, AreChecked) {
  const Tensor logits = Tensor::zeros({2, 8}, DType::kF32), bias = Tensor::zeros({8}, DType::kF32);
  auto refused = [&](const Tensor& l, const Tensor& b, const GateConfig& c,
                     const std::string& text) {
    EXPECT_THAT([&] { route(l, b, c); },
                ThrowsMessage<std::invalid_argument>(HasSubstr("topk_gate_forward: " + text)));
  };
  refused(logits, Tensor::zeros({7}, DType::kF32), gate(8, 2), "bias is [7], expected [8]");
  refused(logits, bias, gate(9, 2), "logits is [2, 8], expected [2, 9]");
  refused(logits, bias, gate(8, 2, 3), "config.n_group is 3");
  refused(logits, bias, gate(8, 2, 4, 5), "config.topk_group is 5");
  refused(logits, bias, gate(8, 5, 4, 2),
          "config.num_experts_per_tok is 5, expected in [1, experts of the kept groups = 4]");
  refused(Tensor::zeros({2, 8}, DType::kBF16), bias, gate(8, 2), "logits is bf16, expected f32");
  EXPECT_NO_THROW(route(Tensor::zeros({0, 8}, DType::kF32), bias, gate(8, 2)));

  ExecContext ctx(1);
  Routing r = route(logits, bias, gate(8, 2));
  Tensor dlogits = Tensor::zeros({2, 8}, DType::kF32);
  r.idx.data<int32_t>()[3] = 8;
  EXPECT_THAT(
      [&] { topk_gate_backward(ctx, r.scores, r.idx, gate(8, 2), r.weights, nullptr, dlogits); },
      ThrowsMessage<std::invalid_argument>(
          HasSubstr("topk_gate_backward: topk_idx[1, 1] is 8, expected in [0, 8)")));
  EXPECT_THAT([&] { sequence_balance_loss(ctx, r.scores, r.idx, 1, 3, 1, nullptr); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("[begin, end) is [1, 3)")));
}

}  // namespace
}  // namespace moerl::kernels
