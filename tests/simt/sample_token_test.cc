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
  const ArrayOnDevice<int32_t> tokens_(std::vector<int32_t>(params.size(), -7));
  const ArrayOnDevice<float> log_probs_(std::vector<float>(params.size(), -7));
  cuda_ops<SampleTokenCuda>().run({logits.dim(0), logits.dim(1), vocab_size, logits_.data(),
                                   params_.data(), tokens_.data(), log_probs_.data()});
  return {tokens_.to_host(), log_probs_.to_host()};
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

TEST(SampleTokenCudaTest, ZerosOfBothSignsAreATie) {
  const Tensor logits = Tensor::from<float>({2, 3}, {-1, -0.0f, 0, -1, -0.0f, 0});
  const Draws got = draw(logits, 3, {{.temperature = 0}, {.top_k = 1, .uniform = 0.9f}});
  EXPECT_EQ(got.tokens, (std::vector<int32_t>{1, 1}));
}

TEST(SampleTokenCudaTest, RowsWithoutADistributionHaveNoToken) {
  const float nan = std::nanf("");
  const Tensor logits =
      Tensor::from<float>({4, 2}, {0, nan, kInfinity, 0, -kInfinity, -kInfinity, 1, 2});
  const Draws got = draw(logits, 2, std::vector<SampleParams>(4));
  EXPECT_EQ(got.tokens[0], -1);
  EXPECT_EQ(got.tokens[1], -1);
  EXPECT_EQ(got.tokens[2], -1);
  EXPECT_EQ(got.tokens[3], 0);
  EXPECT_TRUE(std::isnan(got.log_probs[0]));
}

}  // namespace
}  // namespace moerl::kernels
