#include "policy/grpo/loss_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing/same_bits.h"

namespace moerl {
namespace {

/// Losses of three sequences of 2, 5 and 1 tokens; the one in the middle of the batch is masked.
const std::vector<std::vector<double>> kLosses = {{0.5, -1}, {3, 1, -2, 0.25, 4}, {}, {-0.75}};
const std::vector<int64_t> kLengths = {2, 5, 0, 1};
constexpr double kScale = 16;

double weighted_sum(const std::vector<double>& weights) {
  double sum = 0;
  for (size_t i = 0; i < kLosses.size(); ++i)
    for (double loss : kLosses[i]) sum += weights[i] * loss;
  return sum;
}

TEST(LossWeightsTest, TokenMeanAveragesOverAllTokens) {
  EXPECT_NEAR(weighted_sum(loss_weights(kLengths, "token-mean", kScale)),
              (0.5 - 1 + 3 + 1 - 2 + 0.25 + 4 - 0.75) / 8, 1e-15);
}

TEST(LossWeightsTest, SeqMeanTokenMeanAveragesTheMeansOfTheSequences) {
  EXPECT_NEAR(weighted_sum(loss_weights(kLengths, "seq-mean-token-mean", kScale)),
              (-0.5 / 2 + 6.25 / 5 - 0.75) / 3, 1e-15);
}

TEST(LossWeightsTest, SeqMeanTokenSumAveragesTheSumsOfTheSequences) {
  EXPECT_NEAR(weighted_sum(loss_weights(kLengths, "seq-mean-token-sum", kScale)),
              (-0.5 + 6.25 - 0.75) / 3, 1e-15);
}

TEST(LossWeightsTest, SeqMeanTokenSumNormDividesByAConstantLength) {
  EXPECT_NEAR(weighted_sum(loss_weights(kLengths, "seq-mean-token-sum-norm", kScale)),
              (-0.5 + 6.25 - 0.75) / 3 / kScale, 1e-15);
}

TEST(LossWeightsTest, MaskedSequencesHaveNoWeightAndDoNotCount) {
  for (const char* mode :
       {"token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"}) {
    const std::vector<double> with = loss_weights(kLengths, mode, kScale);
    const std::vector<double> without = loss_weights(std::vector<int64_t>{2, 5, 1}, mode, kScale);
    EXPECT_EQ(with, (std::vector<double>{without[0], without[1], 0, without[2]})) << mode;
    EXPECT_EQ(loss_weights(std::vector<int64_t>{0, 0}, mode, kScale), std::vector<double>(2, 0.0));
  }
}

TEST(LossWeightsTest, BadArgumentsAreRefused) {
  EXPECT_INVALID_ARGUMENT(loss_weights(kLengths, "mean", kScale), "mean");
  EXPECT_INVALID_ARGUMENT(loss_weights(kLengths, "seq-mean-token-sum-norm", 0),
                          "loss_scale_factor");
}

}  // namespace
}  // namespace moerl
