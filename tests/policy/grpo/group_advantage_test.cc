#include "policy/grpo/group_advantage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/testing/same_bits.h"

namespace moerl {
namespace {

const double kNan = std::nan("");

void expect_advantages(const std::vector<float>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i], static_cast<float>(expected[i])) << "answer " << i;
}

TEST(GroupAdvantageTest, GrpoDividesByTheStandardDeviationOfNMinusOne) {
  // mean 0.5; squares 4 * 0.25 = 1, over n - 1 = 3.
  const double a = 0.5 / (std::sqrt(1.0 / 3.0) + 1e-6);
  expect_advantages(group_advantages(std::vector<double>{1, 0, 0, 1}, "grpo", true),
                    {a, -a, -a, a});
  // mean 2; squares 1 + 0 + 1 = 2, over 2.
  const double b = 1 / (1 + 1e-6);
  expect_advantages(group_advantages(std::vector<double>{3, 2, 1}, "grpo", true), {b, 0, -b});
}

TEST(GroupAdvantageTest, EpsilonIsAddedToTheDeviation) {
  // A deviation of 1e-6 is halved by the epsilon: sqrt(2) / 2 becomes half of that.
  const double d = 1e-6 / std::sqrt(2.0);
  const std::vector<float> got = group_advantages(std::vector<double>{d, -d}, "grpo", true);
  EXPECT_NEAR(got[0], d / (1e-6 + 1e-6), 1e-6);
}

TEST(GroupAdvantageTest, WithoutStdOnlyTheMeanIsTaken) {
  expect_advantages(group_advantages(std::vector<double>{4, 1, 1, 0}, "grpo", false),
                    {2.5, -0.5, -0.5, -1.5});
}

TEST(GroupAdvantageTest, RlooIsTheDistanceFromTheMeanOfTheOthers) {
  const std::vector<double> rewards = {4, 1, 1, 0};
  const std::vector<double> expected = {4 - 2.0 / 3, 1 - 5.0 / 3, 1 - 5.0 / 3, 0 - 6.0 / 3};
  for (bool by_std : {false, true}) {  // never divided
    const std::vector<float> got = group_advantages(rewards, "rloo", by_std);
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(got[i], expected[i], 1e-6);
  }
}

TEST(GroupAdvantageTest, AdvantagesSumToZero) {
  const std::vector<double> rewards = {0.1, 1.1, 0.0, 0.7, 0.1, 1.1, -0.4, 0.25};
  for (const char* estimator : {"grpo", "rloo"}) {
    for (bool by_std : {false, true}) {
      double sum = 0;
      for (float a : group_advantages(rewards, estimator, by_std)) sum += a;
      EXPECT_NEAR(sum, 0, 1e-6);
    }
  }
}

TEST(GroupAdvantageTest, EqualRewardsGiveExactlyZero) {
  for (const char* estimator : {"grpo", "rloo"}) {
    for (size_t n : {1, 2, 3, 7}) {
      const std::vector<double> rewards(n, 0.1);
      expect_advantages(group_advantages(rewards, estimator, true), std::vector<double>(n, 0.0));
      EXPECT_TRUE(has_zero_variance(rewards));
    }
  }
  EXPECT_FALSE(has_zero_variance(std::vector<double>{0.1, 0.1, 0.2}));
  EXPECT_TRUE(group_advantages({}, "grpo", true).empty());
}

TEST(GroupAdvantageTest, UnscorableAnswersTakeNoPart) {
  // As the group {1, 0, 0} alone.
  const std::vector<double> rewards = {kNan, 1, 0, kNan, 0};
  for (const char* estimator : {"grpo", "rloo"}) {
    const std::vector<float> alone =
        group_advantages(std::vector<double>{1, 0, 0}, estimator, true);
    expect_advantages(group_advantages(rewards, estimator, true),
                      {0, alone[0], alone[1], 0, alone[2]});
  }
  EXPECT_FALSE(has_zero_variance(rewards));
}

TEST(GroupAdvantageTest, OneScoredAnswerOrNoneTeachesNothing) {
  for (const char* estimator : {"grpo", "rloo"}) {
    expect_advantages(group_advantages(std::vector<double>{kNan, 1, kNan}, estimator, true),
                      {0, 0, 0});
    expect_advantages(group_advantages(std::vector<double>{kNan, kNan}, estimator, true), {0, 0});
  }
  EXPECT_TRUE(has_zero_variance(std::vector<double>{kNan, 1, kNan}));
  EXPECT_TRUE(has_zero_variance(std::vector<double>{kNan, kNan}));
}

TEST(GroupAdvantageTest, UnknownEstimatorIsRefused) {
  EXPECT_INVALID_ARGUMENT(group_advantages(std::vector<double>{0, 1}, "gae", true), "gae");
}

}  // namespace
}  // namespace moerl
