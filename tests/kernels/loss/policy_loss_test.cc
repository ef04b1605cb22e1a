#include "kernels/loss/policy_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/loss/policy_loss_ref.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

/// One token of weight 1 whose ratio is `ratio` and whose reference is x above the policy.
struct Token {
  float log_prob = -1, old = -1, reference = -1, entropy = 0, advantage = 0, weight = 1;
};
Token token_with_ratio(double ratio, float advantage) {
  return {.log_prob = static_cast<float>(std::log(ratio)), .old = 0, .advantage = advantage};
}
Token token_with_x(float x) { return {.log_prob = -1, .old = -1, .reference = -1 + x}; }

struct Result {
  PolicyLossSums sums;
  std::vector<float> dlog_probs, dentropy;
};
Result run(const PolicyLossConfig& config, const std::vector<Token>& tokens) {
  std::vector<float> l, old, reference, entropy, advantage, weight;
  for (const Token& t : tokens) {
    l.push_back(t.log_prob);
    old.push_back(t.old);
    reference.push_back(t.reference);
    entropy.push_back(t.entropy);
    advantage.push_back(t.advantage);
    weight.push_back(t.weight);
  }
  Result r{{}, std::vector<float>(tokens.size(), 99), std::vector<float>(tokens.size(), 99)};
  r.sums = policy_loss(config, {l, old, reference, entropy, advantage, weight}, r.dlog_probs,
                       r.dentropy);
  return r;
}

double ref_loss(const PolicyLossConfig& config, const Token& t, double log_prob) {
  return t.weight * ref::policy_loss(config, log_prob, t.old, t.reference, t.entropy, t.advantage);
}

TEST(PolicyLossTest, OnPolicyIsMinusAdvantageWithGradientMinusAdvantage) {
  for (float advantage : {-2.0f, 0.0f, 1.5f}) {
    const Result r = run({}, {{.log_prob = -0.7f, .old = -0.7f, .advantage = advantage}});
    EXPECT_EQ(r.sums.loss, -advantage);
    EXPECT_EQ(r.dlog_probs[0], -advantage);
    EXPECT_EQ(r.sums.clipped, 0);
    EXPECT_EQ(r.sums.ppo_kl, 0);
  }
}

TEST(PolicyLossTest, ClipsEachSideForItsSignOnly) {
  const PolicyLossConfig config{.clip_ratio_low = 0.2f, .clip_ratio_high = 0.3f};
  struct Case {
    double ratio;
    float advantage;
    double loss, gradient, clipped;
  };
  const Case cases[] = {
      {1.5, 2, -2 * 1.3, 0, 1},         // a good token is already likelier: stop
      {1.5, -2, 2 * 1.5, 2 * 1.5, 0},   // a bad token became likelier: push back
      {0.5, -2, 2 * 0.8, 0, 1},         // a bad token is already rarer: stop
      {0.5, 2, -2 * 0.5, -2 * 0.5, 0},  // a good token became rarer: pull back
      {1.1, 2, -2 * 1.1, -2 * 1.1, 0},  // inside
      {0.9, -2, 2 * 0.9, 2 * 0.9, 0},   // inside
  };
  for (const Case& c : cases) {
    const Result r = run(config, {token_with_ratio(c.ratio, c.advantage)});
    EXPECT_NEAR(r.sums.loss, c.loss, 1e-6) << c.ratio << " " << c.advantage;
    EXPECT_NEAR(r.dlog_probs[0], c.gradient, 1e-6) << c.ratio << " " << c.advantage;
    EXPECT_EQ(r.sums.clipped, c.clipped) << c.ratio << " " << c.advantage;
    EXPECT_EQ(r.sums.clipped_lower, 0);
  }
}

TEST(PolicyLossTest, DualClipBoundsTheLossOfNegativeAdvantages) {
  const PolicyLossConfig config{.clip_ratio_c = 3};
  const Result above = run(config, {token_with_ratio(5, -2)});
  EXPECT_NEAR(above.sums.loss, 6, 1e-6);
  EXPECT_EQ(above.dlog_probs[0], 0);
  EXPECT_EQ(above.sums.clipped_lower, 1);
  EXPECT_EQ(above.sums.clipped, 0);
  const Result below = run(config, {token_with_ratio(2.5, -2)});
  EXPECT_NEAR(below.sums.loss, 5, 1e-6);
  EXPECT_NEAR(below.dlog_probs[0], 5, 1e-6);
  EXPECT_EQ(below.sums.clipped_lower, 0);
  const Result positive = run(config, {token_with_ratio(5, 2)});  // only the plain clip
  EXPECT_NEAR(positive.sums.loss, -2.4, 1e-6);
  EXPECT_EQ(positive.sums.clipped_lower, 0);
  EXPECT_EQ(positive.sums.clipped, 1);
}

TEST(PolicyLossTest, LogRatioIsClampedAndThenHasNoGradient) {
  const Result r = run({}, {{.log_prob = -1, .old = -31, .advantage = -1}});
  EXPECT_NEAR(r.sums.loss, std::exp(20.0), 1e-3);
  EXPECT_EQ(r.dlog_probs[0], 0);
  const Result low = run({.clip_ratio_low = 1}, {{.log_prob = -31, .old = -1, .advantage = -1}});
  EXPECT_NEAR(low.sums.loss, std::exp(-20.0), 1e-15);
  EXPECT_EQ(low.dlog_probs[0], 0);
}

TEST(PolicyLossTest, KlEstimatorsInClosedForm) {
  const float x = 0.75f;
  struct Case {
    KlType type;
    double value, gradient;
  };
  const double k3 = std::exp(0.75) - 1.75;
  const Case cases[] = {{KlType::kK1, -0.75, 1},
                        {KlType::kK2, 0.28125, -0.75},
                        {KlType::kK3, k3, 1 - std::exp(0.75)},
                        {KlType::kK3Unbiased, k3, k3 + 1 - std::exp(0.75)},  // r = 1
                        {KlType::kK1Plus, -0.75, -0.75},
                        {KlType::kK3Plus, k3, -0.75}};
  for (const Case& c : cases) {
    const Result r = run({.kl = c.type, .kl_coef = 0.5f}, {token_with_x(x)});
    EXPECT_NEAR(r.sums.kl, c.value, 1e-12) << static_cast<int>(c.type);
    EXPECT_NEAR(r.sums.loss, 0.5 * c.value, 1e-12) << static_cast<int>(c.type);
    EXPECT_NEAR(r.dlog_probs[0], 0.5 * c.gradient, 1e-7) << static_cast<int>(c.type);
  }
}

TEST(PolicyLossTest, KlClampsHaveNoGradient) {
  const Result clamped_k3 = run({.kl = KlType::kK3, .kl_coef = 1}, {token_with_x(3)});
  EXPECT_EQ(clamped_k3.sums.kl, 10);  // e^3 - 4 = 16.1
  EXPECT_EQ(clamped_k3.dlog_probs[0], 0);
  const Result free_k3 = run({.kl = KlType::kK3, .kl_coef = 1}, {token_with_x(-12)});
  EXPECT_EQ(free_k3.sums.kl, 10);  // e^-12 + 11
  EXPECT_EQ(free_k3.dlog_probs[0], 0);
  for (KlType type : {KlType::kK1, KlType::kK2, KlType::kK1Plus}) {
    const Result r = run({.kl = type, .kl_coef = 1}, {token_with_x(25)});
    EXPECT_EQ(r.sums.kl, type == KlType::kK2 ? 200 : -20);
    EXPECT_EQ(r.dlog_probs[0], 0);
  }
  // The unbiased form keeps the gradient through the ratio where k3 itself is clamped.
  Token t = token_with_x(3);
  t.old = t.log_prob - std::log(2.0f);
  const Result unbiased = run({.kl = KlType::kK3Unbiased, .kl_coef = 1}, {t});
  EXPECT_NEAR(unbiased.sums.kl, 20, 1e-5);
  EXPECT_NEAR(unbiased.dlog_probs[0], 20, 1e-5);
}

TEST(PolicyLossTest, EntropyBonusHasItsGradient) {
  const Result r = run({.entropy_coef = 0.25f}, {{.entropy = 2, .weight = 3}});
  EXPECT_DOUBLE_EQ(r.sums.loss, -1.5);
  EXPECT_DOUBLE_EQ(r.sums.entropy, 6);
  EXPECT_EQ(r.dentropy[0], -0.75f);
  const Result watched = run({}, {{.entropy = 2, .weight = 3}});
  EXPECT_EQ(watched.sums.loss, 0);
  EXPECT_DOUBLE_EQ(watched.sums.entropy, 6);
  EXPECT_EQ(watched.dentropy[0], 0);
}

// Every combination of configuration and token against the reference and its derivative.
TEST(PolicyLossTest, ValueAndGradientFollowTheReferenceInEveryBranch) {
  std::vector<Token> tokens;
  for (float advantage : {-1.3f, 0.0f, 0.8f})
    for (float log_ratio : {-21.0f, -1.1f, -0.1f, 0.0f, 0.15f, 0.9f, 1.6f, 21.0f})
      for (float x : {-21.0f, -11.5f, -0.4f, 0.0f, 0.6f, 2.2f, 2.6f, 21.0f})
        tokens.push_back({.log_prob = -22,
                          .old = -22 - log_ratio,
                          .reference = -22 + x,
                          .entropy = 1.1f,
                          .advantage = advantage,
                          .weight = 0.7f});
  for (KlType type : {KlType::kNone, KlType::kK1, KlType::kK2, KlType::kK3, KlType::kK3Unbiased})
    for (float dual_clip : {0.0f, 3.0f}) {
      const PolicyLossConfig config{.clip_ratio_low = 0.2f,
                                    .clip_ratio_high = 0.28f,
                                    .clip_ratio_c = dual_clip,
                                    .kl = type,
                                    .kl_coef = 0.3f,
                                    .entropy_coef = 0.05f};
      const Result all = run(config, tokens);
      double total = 0;
      for (size_t i = 0; i < tokens.size(); ++i) {
        double l = tokens[i].log_prob;
        const auto loss = [&] { return ref_loss(config, tokens[i], l); };
        const double expected = loss(), slope = testing::central_difference(loss, l, 1e-6);
        total += expected;
        const Result one = run(config, {tokens[i]});
        ASSERT_NEAR(one.sums.loss, expected, 1e-12 * (1 + std::abs(expected))) << i;
        // Exactly on a border (ratio 1 with advantage 0 is none) there is no such token here.
        ASSERT_NEAR(one.dlog_probs[0], slope, 1e-6 * (1 + std::abs(expected))) << i;
        ASSERT_EQ(all.dlog_probs[i], one.dlog_probs[0]) << i;
      }
      EXPECT_NEAR(all.sums.loss, total, 1e-9 * std::abs(total));
      EXPECT_EQ(all.sums.tokens, static_cast<double>(tokens.size()));
    }
}

TEST(PolicyLossTest, OpposedTokensCancel) {
  const Result r = run({}, {{.advantage = 1.25f}, {.advantage = -1.25f}});
  EXPECT_EQ(r.sums.loss, 0);
  EXPECT_EQ(r.dlog_probs[0], -r.dlog_probs[1]);
}

TEST(PolicyLossTest, LossIsLinearInTheWeights) {
  const Token t{.log_prob = -1, .old = -1.1f, .reference = -0.6f, .entropy = 1, .advantage = 0.5f};
  const PolicyLossConfig config{.kl = KlType::kK3, .kl_coef = 0.1f, .entropy_coef = 0.01f};
  Token twice = t;
  twice.weight = 2;
  const Result once = run(config, {t}), doubled = run(config, {twice});
  EXPECT_EQ(doubled.sums.loss, 2 * once.sums.loss);
  EXPECT_EQ(doubled.dlog_probs[0], 2 * once.dlog_probs[0]);
  EXPECT_EQ(doubled.sums.tokens, once.sums.tokens);
  EXPECT_EQ(doubled.sums.ppo_kl, once.sums.ppo_kl);
}

TEST(PolicyLossTest, TokensOfWeightZeroAreNeverLookedAt) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Result r = run({.kl = KlType::kK3, .kl_coef = 1, .entropy_coef = 1},
                       {{nan, nan, nan, nan, nan, 0}, {.log_prob = -1, .old = -2, .advantage = 1}});
  EXPECT_TRUE(std::isfinite(r.sums.loss));
  EXPECT_EQ(r.dlog_probs[0], 0);
  EXPECT_EQ(r.dentropy[0], 0);
  EXPECT_EQ(r.sums.tokens, 1);
  EXPECT_EQ(r.sums.ppo_kl, -1);
}

TEST(PolicyLossTest, NanShowsInTheLoss) {
  const Result r = run({}, {{.log_prob = std::numeric_limits<float>::quiet_NaN(), .advantage = 1}});
  EXPECT_TRUE(std::isnan(r.sums.loss));
}

TEST(PolicyLossTest, NoTokensGiveZero) {
  const PolicyLossSums sums = policy_loss({}, {}, {}, {});
  EXPECT_EQ(sums.loss, 0);
  EXPECT_EQ(sums.tokens, 0);
}

TEST(PolicyLossTest, WrongArgumentsAreNamed) {
  const std::vector<float> two(2), three(3);
  std::vector<float> out(3), short_out(2);
  const PolicyLossInput good{three, three, three, three, three, three};
  PolicyLossInput bad = good;
  bad.old_log_probs = two;
  EXPECT_INVALID_ARGUMENT(policy_loss({}, bad, out, out), "old_log_probs has 2");
  bad = good;
  bad.ref_log_probs = {};
  EXPECT_NO_THROW(policy_loss({}, bad, out, out));
  EXPECT_INVALID_ARGUMENT(policy_loss({.kl = KlType::kK1}, bad, out, out), "ref_log_probs has 0");
  bad = good;
  bad.entropy = {};
  EXPECT_INVALID_ARGUMENT(policy_loss({.entropy_coef = 1}, bad, out, out), "entropy has 0");
  EXPECT_INVALID_ARGUMENT(policy_loss({.entropy_coef = 1}, good, out, {}), "dentropy has 0");
  EXPECT_INVALID_ARGUMENT(policy_loss({}, good, short_out, out), "dlog_probs has 2");
  EXPECT_INVALID_ARGUMENT(policy_loss({.clip_ratio_low = -1}, good, out, out), "clip_ratio_low");
  EXPECT_INVALID_ARGUMENT(policy_loss({.clip_ratio_c = 0.5f}, good, out, out), "clip_ratio_c");
}

}  // namespace
}  // namespace moerl::kernels
