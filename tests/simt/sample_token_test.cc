#include "kernels/sampling/sample_token.h"

#include <cmath>
#include <limits>

#include "kernels/sampling/sample_token_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

const SampleParams kParams[] = {
    {.temperature = 0}, {.temperature = 0.8f},
    {.top_k = 1},       {.temperature = 1.3f, .top_k = 7},
    {.top_k = 100000},  {.temperature = 0.9f, .top_p = 0.5f},
    {.top_p = 1e-6f},   {.temperature = 2, .top_k = 20, .top_p = 0.7f, .min_p = 0.05f},
    {.min_p = 0.2f},
};

struct Draws {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
};
Draws draw(const Tensor& logits, int64_t vocab_size, const std::vector<SampleParams>& params) {
  const OnDevice logits_(logits);
  const ArrayOnDevice<SampleParams> params_(params);
  const ArrayOnDevice<TokenDraw> draws_(std::vector<TokenDraw>(params.size(), {-7, -7}));
  cuda_ops<SampleTokenCuda>().run(
      {logits.dim(0), logits.dim(1), vocab_size, logits_.data(), params_.data(), draws_.data()});
  Draws draws;
  for (const TokenDraw& draw : draws_.to_host()) {
    draws.tokens.push_back(draw.token);
    draws.log_probs.push_back(draw.log_prob);
  }
  return draws;
}

TEST(ContinueTokensCudaTest, ReplacesTheTokensThatHaveASource) {
  for_each_order([] {
    const std::vector<TokenDraw> draws = {{5, -1}, {-1, kInfinity}, {7, -2}};
    const ArrayOnDevice<TokenDraw> draws_(draws);
    const ArrayOnDevice<int32_t> sources_({2, -1, 0, 1, 2}), tokens_({10, 11, 12, 13, 14});
    cuda_ops<SampleTokenCuda>().continue_tokens(
        {5, draws_.data(), sources_.data(), tokens_.data()});
    EXPECT_EQ(tokens_.to_host(), (std::vector<int32_t>{7, 11, 5, 0, 7}));
  });
}

class SampleTokenCudaTest : public ::testing::TestWithParam<int64_t> {};

// Every way of narrowing with uniforms from the first to the last; logits with ties, -0 and -inf.
TEST_P(SampleTokenCudaTest, DrawsTheTokensOfTheCpu) {
  const int64_t vocab_size = GetParam(), width = vocab_size + 2;
  ExecContext cpu(1);
  std::vector<SampleParams> params;
  for (const SampleParams& kind : kParams)
    for (float uniform : {0.0f, 0.37f, 1 - 0x1p-24f}) {
      params.push_back(kind);
      params.back().uniform = uniform;
    }
  const auto rows = static_cast<int64_t>(params.size());
  Tensor logits = random_tensor({rows, width}, DType::kF32, 1, -6, 6);
  float* values = logits.data<float>();
  for (int64_t i = 0; i < logits.numel(); ++i) {
    values[i] = std::round(8 * values[i]) / 8;
    if (i % 5 == 4 && vocab_size > 4) values[i] = -kInfinity;
  }
  Draws expected{std::vector<int32_t>(params.size()), std::vector<float>(params.size())};
  sample_token(cpu, logits, vocab_size, params, expected.tokens, expected.log_probs);
  for_each_order([&] {
    const Draws got = draw(logits, vocab_size, params);
    EXPECT_EQ(got.tokens, expected.tokens);
    EXPECT_EQ(got.log_probs, expected.log_probs);
  });
}

// One group of lanes, a partial one, whole tiles, a partial tile.
INSTANTIATE_TEST_SUITE_P(Vocabularies, SampleTokenCudaTest,
                         ::testing::Values(1, 16, 61, 2048, 2100));

// Among 2^12 tokens alike the one that is drawn is the upper twelve bits of the uniform number.
// Seeds, prompts and samples that use both halves of their words.
TEST(SampleTokenCudaTest, DrawsByThePhiloxNumberOfTheHost) {
  for_each_order([&] {
    constexpr int64_t kVocab = 4096;
    std::vector<SampleParams> params;
    std::vector<int32_t> expected;
    for (uint64_t seed : {uint64_t{0}, uint64_t{42}, uint64_t{1} << 32, ~uint64_t{0}})
      for (uint64_t prompt : {uint64_t{0}, uint64_t{7}, uint64_t{7} << 32, ~uint64_t{0}})
        for (uint32_t sample : {0u, 3u, ~0u})
          for (uint32_t position : {0u, 1u, 4095u}) {
            params.push_back({.uniform = {seed, prompt, sample, position}});
            const float uniform = sampling_uniform(seed, prompt, sample, position);
            EXPECT_EQ(params.back().uniform.value(), uniform);
            expected.push_back(static_cast<int32_t>(uniform * kVocab));
          }
    const auto rows = static_cast<int64_t>(params.size());
    const Draws got = draw(Tensor::zeros({rows, kVocab}, DType::kF32), kVocab, params);
    EXPECT_EQ(got.tokens, expected);
  });
}

TEST(SampleTokenCudaTest, ZerosOfBothSignsAreATie) {
  for_each_order([&] {
    const Tensor logits = Tensor::from<float>({2, 3}, {-1, -0.0f, 0, -1, -0.0f, 0});
    const Draws got = draw(logits, 3, {{.temperature = 0}, {.top_k = 1, .uniform = 0.9f}});
    EXPECT_EQ(got.tokens, (std::vector<int32_t>{1, 1}));
  });
}

TEST(SampleTokenCudaTest, RowsWithoutADistributionHaveNoToken) {
  for_each_order([&] {
    const float nan = std::nanf("");
    const Tensor logits =
        Tensor::from<float>({4, 2}, {0, nan, kInfinity, 0, -kInfinity, -kInfinity, 1, 2});
    const Draws got = draw(logits, 2, std::vector<SampleParams>(4));
    EXPECT_EQ(got.tokens[0], -1);
    EXPECT_EQ(got.tokens[1], -1);
    EXPECT_EQ(got.tokens[2], -1);
    EXPECT_EQ(got.tokens[3], 0);
    EXPECT_TRUE(std::isnan(got.log_probs[0]));
  });
}

}  // namespace
}  // namespace moerl::kernels
