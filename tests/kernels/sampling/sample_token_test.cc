#include "kernels/sampling/sample_token.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "common/error.h"
#include "common/rng.h"
#include "kernels/loss/token_log_prob.h"
#include "kernels/sampling/sample_token_ref.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::random_values;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLastUniform = 1 - 0x1p-24f;

struct Draws {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
};

Draws sample(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
             const std::vector<SampleParams>& params) {
  Draws out{std::vector<int32_t>(params.size()), std::vector<float>(params.size())};
  sample_token(ctx, logits, vocab_size, params, out.tokens, out.log_probs);
  return out;
}

/// The row once for each of `count` uniforms, evenly spread over [0, 1).
Draws sample_grid(ExecContext& ctx, const std::vector<float>& row, SampleParams params, int count) {
  std::vector<float> logits;
  std::vector<SampleParams> all;
  for (int i = 0; i < count; ++i) {
    logits.insert(logits.end(), row.begin(), row.end());
    params.uniform = (static_cast<float>(i) + 0.5f) / static_cast<float>(count);
    all.push_back(params);
  }
  const auto vocab_size = static_cast<int64_t>(row.size());
  return sample(ctx, Tensor::from<float>({count, vocab_size}, logits), vocab_size, all);
}

ref::SampleSettings settings_of(const SampleParams& p) {
  return {p.temperature, p.top_k, p.top_p, p.min_p};
}

TEST(SampleTokenTest, FrequenciesFollowTheDistribution) {
  ExecContext ctx(2);
  constexpr int kDraws = 20000;
  const std::vector<float> row = random_values(50, 1, -2, 2);
  const SampleParams params{.temperature = 0.8f};
  const Draws got = sample_grid(ctx, row, params, kDraws);
  const std::vector<double> p =
      ref::sampling_distribution({row.begin(), row.end()}, settings_of(params));
  std::vector<int> counts(row.size());
  for (int32_t token : got.tokens) ++counts[static_cast<size_t>(token)];
  // Each token owns an interval of the unit line, so an even grid meets it to within one point.
  for (size_t v = 0; v < p.size(); ++v) EXPECT_NEAR(counts[v], p[v] * kDraws, 1.1) << v;
  // With the grid in ascending order the tokens ascend too.
  EXPECT_TRUE(std::is_sorted(got.tokens.begin(), got.tokens.end()));
}

TEST(SampleTokenTest, PhiloxDrawsPassChiSquare) {
  ExecContext ctx(2);
  constexpr int kDraws = 20000, kVocab = 30;
  const std::vector<float> row = random_values(kVocab, 2, -1.5f, 1.5f);
  std::vector<float> logits;
  std::vector<SampleParams> params;
  for (uint32_t i = 0; i < kDraws; ++i) {
    logits.insert(logits.end(), row.begin(), row.end());
    params.push_back({.uniform = sampling_uniform(7, i / 8, i % 8, 3)});
  }
  const Draws got = sample(ctx, Tensor::from<float>({kDraws, kVocab}, logits), kVocab, params);
  const std::vector<double> p = ref::sampling_distribution({row.begin(), row.end()}, {});
  std::vector<double> counts(kVocab);
  for (int32_t token : got.tokens) counts[static_cast<size_t>(token)] += 1;
  double chi_square = 0;
  for (size_t v = 0; v < p.size(); ++v)
    chi_square += (counts[v] - p[v] * kDraws) * (counts[v] - p[v] * kDraws) / (p[v] * kDraws);
  EXPECT_LT(chi_square, 58.3);  // 29 degrees of freedom, p = 0.001
}

/// The kept set, seen through a grid fine enough to meet every kept token.
class NarrowingTest : public ::testing::TestWithParam<SampleParams> {};

TEST_P(NarrowingTest, KeepsExactlyTheSetOfTheReference) {
  ExecContext ctx(2);
  SampleParams params = GetParam();
  params.temperature = 1.3f;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    std::vector<float> row = random_values(40, seed, -2, 2);
    if (seed % 2 == 0)  // many ties
      for (float& value : row) value = std::round(value * 2) / 2;
    const Draws got = sample_grid(ctx, row, params, 4000);
    const std::vector<double> p =
        ref::sampling_distribution({row.begin(), row.end()}, settings_of(params));
    std::vector<int> counts(row.size());
    for (int32_t token : got.tokens) ++counts[static_cast<size_t>(token)];
    for (size_t v = 0; v < p.size(); ++v) {
      EXPECT_EQ(counts[v] > 0, p[v] > 0) << "token " << v << ", seed " << seed;
      EXPECT_NEAR(counts[v], p[v] * 4000, 1.1) << "token " << v << ", seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Settings, NarrowingTest,
    ::testing::Values(SampleParams{.top_k = 1}, SampleParams{.top_k = 7}, SampleParams{.top_k = 40},
                      SampleParams{.top_k = 1000}, SampleParams{.top_p = 0.01f},
                      SampleParams{.top_p = 0.63f}, SampleParams{.top_p = 0.9999f},
                      SampleParams{.min_p = 0.2f}, SampleParams{.min_p = 0.99f},
                      SampleParams{.top_k = 20, .top_p = 0.8f, .min_p = 0.15f},
                      SampleParams{.top_k = 3, .top_p = 0.999f}));

TEST(SampleTokenTest, LargeVocabulariesFollowTheReferenceInEveryPath) {
  ExecContext ctx(2);
  for (int64_t vocab_size : {511, 512, 513, 1500, 5003}) {
    const std::vector<float> row =
        random_values(vocab_size, static_cast<uint64_t>(vocab_size), -6, 6);
    for (const SampleParams& params :
         {SampleParams{}, SampleParams{.top_k = 700}, SampleParams{.top_p = 0.95f},
          SampleParams{.min_p = 0.001f}, SampleParams{.top_k = 400, .top_p = 0.5f}}) {
      const std::vector<double> p =
          ref::sampling_distribution({row.begin(), row.end()}, settings_of(params));
      const Draws got = sample_grid(ctx, row, params, 97);
      for (size_t i = 0; i < got.tokens.size(); ++i) {
        const auto token = static_cast<size_t>(got.tokens[i]);
        const double u = (static_cast<double>(i) + 0.5) / 97;
        const double below = std::accumulate(p.begin(), p.begin() + got.tokens[i], 0.0);
        EXPECT_GT(p[token], 0);
        EXPECT_LE(below - 1e-5, u);  // fp32 sums: the border may move by a little
        EXPECT_GE(below + p[token] + 1e-5, u);
      }
    }
  }
}

TEST(SampleTokenTest, GreedyTakesTheLowestOfTheLikeliest) {
  ExecContext ctx(1);
  std::vector<float> row(700, 0.0f);
  row[300] = row[301] = row[650] = 4.0f;
  const SampleParams greedy{.temperature = 0, .uniform = 0.9f};
  EXPECT_EQ(sample(ctx, Tensor::from<float>({1, 700}, row), 700, {greedy}).tokens[0], 300);
  row[699] = 5.0f;
  EXPECT_EQ(sample(ctx, Tensor::from<float>({1, 700}, row), 700, {greedy}).tokens[0], 699);
  EXPECT_EQ(sample(ctx, Tensor::from<float>({1, 700}, row), 699, {greedy}).tokens[0], 300);
}

TEST(SampleTokenTest, NeverDrawsProbabilityZeroOrPadding) {
  ExecContext ctx(1);
  for (int64_t vocab_size : {7, 16, 33, 1030}) {
    const int64_t width = vocab_size + 5;
    std::vector<float> row(static_cast<size_t>(width), 50.0f);  // padding is tempting
    for (int64_t v = 0; v < vocab_size; ++v) row[static_cast<size_t>(v)] = -kInfinity;
    const int64_t first = 2, last = vocab_size - 3;
    row[static_cast<size_t>(first)] = 0;
    row[static_cast<size_t>(last)] = -1;
    row[static_cast<size_t>(last) + 1] = -150;  // e underflows to 0
    const Tensor logits = Tensor::from<float>({1, width}, row);
    for (const SampleParams& params :
         {SampleParams{}, SampleParams{.top_k = 1000}, SampleParams{.top_p = 0.999999f}}) {
      SampleParams low = params, high = params;
      low.uniform = 0;
      high.uniform = kLastUniform;
      EXPECT_EQ(sample(ctx, logits, vocab_size, {low}).tokens[0], first);
      EXPECT_EQ(sample(ctx, logits, vocab_size, {high}).tokens[0], last);
    }
  }
}

TEST(SampleTokenTest, LogProbHasTheBitsOfTheTrainingFunction) {
  ExecContext ctx(2);
  const Tensor logits = random_tensor({6, 1000}, DType::kF32, 3, -5, 5);
  const std::vector<SampleParams> params = {{.uniform = 0.3f},
                                            {.temperature = 0.6f, .uniform = 0.8f},
                                            {.temperature = 0},
                                            {.temperature = 1.7f, .top_k = 5, .uniform = 0.5f},
                                            {.top_p = 0.4f, .uniform = 0.1f},
                                            {.temperature = 0.9f, .min_p = 0.1f, .uniform = 0.99f}};
  const Draws got = sample(ctx, logits, 990, params);
  for (size_t t = 0; t < params.size(); ++t) {
    std::vector<float> expected(1);
    const float temperature = params[t].temperature == 0 ? 1 : params[t].temperature;
    const auto row = static_cast<int64_t>(t);
    log_prob_from_logits(ctx, logits.rows(row, row + 1), 990, temperature,
                         std::vector<int32_t>{got.tokens[t]}, expected, {}, {});
    EXPECT_EQ(got.log_probs[t], expected[0]) << t;
  }
}

TEST(SampleTokenTest, EveryLevelThreadCountAndBatchGivesTheSameBits) {
  const Tensor logits = random_tensor({60, 1100}, DType::kF32, 4, -5, 5);
  std::vector<SampleParams> params;
  for (uint32_t t = 0; t < 60; ++t) {
    SampleParams p{.temperature = t % 5 == 0 ? 0 : 0.5f + static_cast<float>(t % 3) * 0.5f,
                   .uniform = sampling_uniform(1, t, 0, 0)};
    if (t % 4 == 1) p.top_k = 30;
    if (t % 4 == 2) p.top_p = 0.9f;
    if (t % 4 == 3) p.min_p = 0.05f;
    params.push_back(p);
  }
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Draws all = sample(ctx, logits, 1090, params);
    for (int64_t t = 0; t < 60; t += 7) {
      const Draws one = sample(ctx, logits.rows(t, t + 1), 1090, {params[static_cast<size_t>(t)]});
      EXPECT_EQ(one.tokens[0], all.tokens[static_cast<size_t>(t)]);
      EXPECT_EQ(one.log_probs[0], all.log_probs[static_cast<size_t>(t)]);
    }
    return std::vector<Tensor>{Tensor::from<int32_t>({60}, all.tokens),
                               Tensor::from<float>({60}, all.log_probs)};
  }));
}

TEST(SampleTokenTest, RowsWithoutADistributionAreNamed) {
  ExecContext ctx(3);
  for (float value : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (float temperature : {0.0f, 1.0f}) {
      Tensor logits = random_tensor({5, 40}, DType::kF32, 5);
      logits.data<float>()[4 * 40 + 1] = value;
      logits.data<float>()[2 * 40 + 39] = value;
      try {
        sample(ctx, logits, 40, std::vector<SampleParams>(5, {.temperature = temperature}));
        FAIL() << "no error";
      } catch (const NumericalError& error) {
        EXPECT_NE(std::string(error.what()).find("row 2"), std::string::npos) << error.what();
      }
    }
  }
}

TEST(SampleTokenTest, EmptyBatchIsFine) {
  ExecContext ctx(2);
  EXPECT_TRUE(sample(ctx, ctx.zeros({0, 8}, DType::kF32), 8, {}).tokens.empty());
}

TEST(SampleTokenTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  const Tensor logits = ctx.zeros({1, 8}, DType::kF32), half = ctx.zeros({1, 8}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(sample(ctx, half, 8, {{}}), "logits is bf16");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 9, {{}}), "vocab_size is 9");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{}, {}}), "params has 2");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{.temperature = -1}}), "temperature is -1");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{.top_k = -1}}), "top_k is -1");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{.top_p = 0}}), "top_p is 0");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{.min_p = 1}}), "min_p is 1");
  EXPECT_INVALID_ARGUMENT(sample(ctx, logits, 8, {{.uniform = 1}}), "params[0].uniform is 1");
}

}  // namespace
}  // namespace moerl::kernels
