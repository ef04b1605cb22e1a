#include "experiments/evaluation/metrics/estimators.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing/metric_cases.h"

namespace moerl::eval {
namespace {

/// C(n, k) where it is exact in a double.
double choose(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0;
  double result = 1;
  for (int64_t i = 0; i < k; ++i)
    result = result * static_cast<double>(n - i) / static_cast<double>(i + 1);
  return result;
}

TEST(EstimatorsTest, PassAtKIsTheShareOfSubsetsWithACorrectSample) {
  for (int64_t n = 1; n <= 12; ++n)
    for (int64_t c = 0; c <= n; ++c)
      for (int64_t k = 1; k <= n; ++k) {
        EXPECT_NEAR(pass_at_k(n, c, k).value(), 1 - choose(n - c, k) / choose(n, k), 1e-13)
            << n << " " << c << " " << k;
        EXPECT_NEAR(all_at_k(n, c, k).value(), choose(c, k) / choose(n, k), 1e-13)
            << n << " " << c << " " << k;
      }
}

TEST(EstimatorsTest, PassAtKStaysExactForManySamples) {
  EXPECT_EQ(pass_at_k(10'000, 0, 5'000), 0.0);
  EXPECT_NEAR(pass_at_k(10'000, 1, 1).value(), 1e-4, 1e-16);
  EXPECT_NEAR(pass_at_k(10'000, 1, 9'999).value(), 0.9999, 1e-12);
  EXPECT_NEAR(all_at_k(10'000, 9'999, 5'000).value(), 0.5, 1e-9);
}

TEST(EstimatorsTest, FewerSamplesThanKSayNothing) {
  EXPECT_EQ(pass_at_k(3, 3, 4), std::nullopt);
  EXPECT_EQ(all_at_k(3, 3, 4), std::nullopt);
  EXPECT_EQ(pass_at_k(0, 0, 1), std::nullopt);
}

TEST(EstimatorsTest, ImpossibleCountsAreRefused) {
  EXPECT_THROW(pass_at_k(3, 4, 1), std::invalid_argument);
  EXPECT_THROW(pass_at_k(3, -1, 1), std::invalid_argument);
  EXPECT_THROW(all_at_k(3, 1, 0), std::invalid_argument);
  EXPECT_THROW(run_spread({}, 1), std::invalid_argument);
  EXPECT_THROW(run_spread({{1, 0}, {1}}, 2), std::invalid_argument);
  EXPECT_THROW(mean({}), std::invalid_argument);
  EXPECT_THROW(quantile({}, 0.5), std::invalid_argument);
}

TEST(EstimatorsTest, SpreadIsThatOfTheRunsOverTheProblems) {
  // Runs: 2/3, 0; problems: 1/2, 1/2, 0 with deviations sqrt(1/2) twice.
  const RunSpread spread = run_spread({{1, 0, 9}, {1, 0, 9}, {0, 0, 9}}, 2);
  EXPECT_NEAR(spread.mean, 1.0 / 3, 1e-15);
  EXPECT_NEAR(spread.std_across_runs, std::sqrt(2.0) / 3, 1e-15);
  EXPECT_NEAR(spread.std_err, 1.0 / 3, 1e-15);
  EXPECT_NEAR(spread.mean_sample_std, std::sqrt(0.5) * 2 / 3, 1e-15);
  EXPECT_EQ(run_spread({{1}, {0}}, 1).std_across_runs, 0);
}

TEST(EstimatorsTest, QuantilesAreThoseOfNumpy) {
  for (const auto& c : testing::statistics_golden().at("quantile"))
    EXPECT_NEAR(quantile(c.at("values").get<std::vector<double>>(), c.at("q")), c.at("quantile"),
                1e-12);
}

TEST(EstimatorsTest, AgreeWithTheRecordedCases) {
  const auto cases = testing::metric_cases();
  if (cases.empty()) GTEST_SKIP() << "there is no " << testing::metric_cases_path();
  int checked = 0;
  for (const auto& c : cases) {
    const auto &input = c.at("input"), &expected = c.at("expected");
    if (c.at("kind") == "pass_at_k") {
      const auto got = pass_at_k(input.at("n"), input.at("c"), input.at("k"));
      ASSERT_EQ(got.has_value(), !expected.is_null()) << c;
      if (got) {
        EXPECT_NEAR(*got, expected, 1e-12) << c;
      }
    } else if (c.at("kind") == "pass_at") {
      const double threshold = input.value("threshold", 1.0);
      int64_t correct = 0;
      for (double value : input.at("values")) correct += value >= threshold;
      EXPECT_NEAR(pass_at_k(static_cast<int64_t>(input.at("values").size()), correct, input.at("k"))
                      .value(),
                  expected, 1e-12)
          << c;
    } else if (c.at("kind") == "avg_at_k_spread") {
      for (const auto& [name, values] : expected.items()) {
        const int64_t k = std::stoll(name.substr(name.rfind('-') + 1));
        const auto& want = values.at("correct_statistics");
        const RunSpread got = run_spread(input.at("scores"), k);
        EXPECT_NEAR(got.mean, want.at("avg"), 1e-12) << c;
        EXPECT_NEAR(got.std_across_runs, want.at("std_dev_across_runs"), 1e-12) << c;
        EXPECT_NEAR(got.std_err, want.at("std_err_across_runs"), 1e-12) << c;
        EXPECT_NEAR(got.mean_sample_std, want.at("avg_sample_std_dev"), 1e-12) << c;
      }
    } else {
      continue;
    }
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace moerl::eval
