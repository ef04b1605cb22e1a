#include "experiments/evaluation/metrics/intervals.h"

#include <gtest/gtest.h>

#include <cmath>

#include "experiments/evaluation/metrics/estimators.h"
#include "tests/testing/metric_cases.h"

namespace moerl::eval {
namespace {

using testing::statistics_golden;

TEST(IntervalsTest, WilsonIsThatOfScipy) {
  for (const auto& c : statistics_golden().at("wilson")) {
    const Interval interval = wilson95(c.at("successes"), c.at("n"));
    EXPECT_NEAR(interval.low, c.at("interval")[0], 1e-12) << c;
    EXPECT_NEAR(interval.high, c.at("interval")[1], 1e-12) << c;
  }
  EXPECT_THROW(wilson95(0, 0), std::invalid_argument);
  EXPECT_THROW(wilson95(4, 3), std::invalid_argument);
}

TEST(IntervalsTest, WilsonAgreesWithTheRecordedCases) {
  const auto cases = testing::metric_cases("wilson95");
  if (cases.empty()) GTEST_SKIP() << "there is no " << testing::metric_cases_path();
  for (const auto& c : cases) {
    const Interval interval = wilson95(c.at("input").at("successes"), c.at("input").at("n"));
    EXPECT_NEAR(interval.low, c.at("expected")[0], 1e-12) << c;
    EXPECT_NEAR(interval.high, c.at("expected")[1], 1e-12) << c;
  }
}

TEST(IntervalsTest, McNemarIsTheBinomialTestOfScipy) {
  for (const auto& c : statistics_golden().at("mcnemar")) {
    const double p = c.at("p");
    EXPECT_NEAR(mcnemar_exact(c.at("only_a"), c.at("only_b")), p, 1e-9 * p) << c;
    EXPECT_NEAR(mcnemar_exact(c.at("only_b"), c.at("only_a")), p, 1e-9 * p) << c;
  }
  EXPECT_THROW(mcnemar_exact(-1, 2), std::invalid_argument);
}

/// How far a percentile of 10,000 draws strays: four standard errors of the 2.5 % quantile of a
/// normal distribution, sqrt(q (1 - q) / draws) / density, and half a step of a mean on a grid.
double monte_carlo_error(const nlohmann::json& c, double step) {
  const double deviation = c.at("standard_error");
  const double density = std::exp(-0.5 * 1.96 * 1.96) / std::sqrt(2 * M_PI) / deviation;
  return 4 * std::sqrt(0.025 * 0.975 / 10'000) / density + step / 2;
}

TEST(IntervalsTest, BootstrapIsThatOfScipyWithinMonteCarloError) {
  const double steps[] = {1.0 / 16 / 30, 1.0 / 4 / 120, 1.0 / 10};
  size_t index = 0;
  for (const auto& c : statistics_golden().at("bootstrap")) {
    const double error = monte_carlo_error(c, steps[index++]);
    const Interval interval = bootstrap95({c.at("values").get<std::vector<double>>()})[0];
    EXPECT_NEAR(interval.low, c.at("low"), error) << c.at("values").size();
    EXPECT_NEAR(interval.high, c.at("high"), error) << c.at("values").size();
    EXPECT_LT(error, 0.15 * (interval.high - interval.low));
  }
}

TEST(IntervalsTest, PairedBootstrapIsThatOfScipyWithinMonteCarloError) {
  for (const auto& c : statistics_golden().at("paired")) {
    const auto a = c.at("a").get<std::vector<double>>(), b = c.at("b").get<std::vector<double>>();
    const PairedDifference paired = paired_bootstrap(a, b);
    EXPECT_NEAR(paired.difference, mean(b) - mean(a), 1e-12);
    EXPECT_NEAR(paired.interval.low, c.at("low"), monte_carlo_error(c, 1.0 / 8 / 60));
    EXPECT_NEAR(paired.interval.high, c.at("high"), monte_carlo_error(c, 1.0 / 8 / 60));
    // Pairing matters: with b shuffled against a the interval is another.
    EXPECT_EQ(paired_bootstrap(a, a).interval.high, 0);
  }
}

TEST(IntervalsTest, BootstrapIsAFunctionOfItsSeed) {
  const std::vector<std::vector<double>> values = {{0, 0.5, 1, 0.25, 0.75, 0.1}};
  const auto low = [&](uint64_t seed) {
    return bootstrap95(values, {.draws = 101, .seed = seed})[0].low;
  };
  EXPECT_EQ(low(3), low(3));
  EXPECT_NE(low(3), low(4));
}

TEST(IntervalsTest, BootstrapOfSeveralStatisticsUsesTheSameProblems) {
  const auto both = bootstrap95({{0, 0, 1, 1, 0}, {1, 1, 0, 0, 1}}, {.draws = 500, .seed = 1});
  EXPECT_NEAR(both[0].low, 1 - both[1].high, 1e-12);
  EXPECT_NEAR(both[0].high, 1 - both[1].low, 1e-12);
  EXPECT_THROW(bootstrap95({{}}), std::invalid_argument);
  EXPECT_THROW(bootstrap95({{1, 0}, {1}}), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::eval
