#include "policy/top_log_probs.h"

#include <gtest/gtest.h>

#include "kernels/loss/token_log_prob.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {
namespace {

TEST(TopLogProbsTest, AreTheBitsOfEachTokensLogProbLikeliestFirst) {
  constexpr int64_t kVocab = 50, kWidth = 64;
  ExecContext ctx(2);
  Tensor logits = random_tensor({3, kWidth}, DType::kF32, 5, -4, 4);
  for (int64_t row = 0; row < 3; ++row)  // padding is no token, however large
    for (int64_t v = kVocab; v < kWidth; ++v) logits.data<float>()[row * kWidth + v] = 9;
  for (const float temperature : {1.0f, 0.6f}) {
    const auto top = top_log_probs(ctx, logits, kVocab, temperature, kVocab + 5);
    ASSERT_EQ(top.size(), 3u);
    for (size_t row = 0; row < 3; ++row) {
      ASSERT_EQ(top[row].size(), static_cast<size_t>(kVocab));
      std::vector<bool> seen(kVocab);
      for (size_t i = 0; i < top[row].size(); ++i) {
        const int32_t token = top[row][i].token;
        ASSERT_LT(token, kVocab);
        EXPECT_FALSE(seen[static_cast<size_t>(token)]);
        seen[static_cast<size_t>(token)] = true;
        if (i > 0) {
          EXPECT_GE(top[row][i - 1].log_prob, top[row][i].log_prob);
        }
        const auto r = static_cast<int64_t>(row);
        std::vector<float> log_prob(1);
        kernels::log_prob_from_logits(ctx, logits.rows(r, r + 1), kVocab, temperature,
                                      std::vector<int32_t>{token}, log_prob, {}, {});
        EXPECT_EQ(top[row][i].log_prob, log_prob[0]);
      }
    }
    const auto three = top_log_probs(ctx, logits, kVocab, temperature, 3);
    for (size_t row = 0; row < 3; ++row)
      EXPECT_TRUE(std::equal(three[row].begin(), three[row].end(), top[row].begin()));
    EXPECT_EQ(three[0].size(), 3u);
  }
}

TEST(TopLogProbsTest, TiesGoToTheLowestId) {
  ExecContext ctx(1);
  const Tensor logits = Tensor::from<float>({1, 5}, {1, 2, 2, 0, 2});
  const auto top = top_log_probs(ctx, logits, 5, 1, 4)[0];
  const std::vector<int32_t> expected = {1, 2, 4, 0};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(top[i].token, expected[i]);
}

TEST(TopLogProbsTest, WrongArgumentsAreRefused) {
  ExecContext ctx(1);
  const Tensor logits = Tensor::from<float>({1, 2}, {1, 2});
  EXPECT_THROW(top_log_probs(ctx, logits, 2, 1, 0), std::invalid_argument);
  EXPECT_THROW(top_log_probs(ctx, logits, 3, 1, 1), std::invalid_argument);
  EXPECT_THROW(top_log_probs(ctx, logits, 2, 0, 1), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::testing
