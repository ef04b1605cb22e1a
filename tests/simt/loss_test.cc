#include <cmath>
#include <limits>

#include "kernels/loss/policy_loss.h"
#include "kernels/loss/policy_loss_impl.h"
#include "kernels/loss/token_log_prob.h"
#include "kernels/loss/token_log_prob_impl.h"
#include "tests/simt/on_device.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;
using testing::random_values;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Rows of logits, a quarter of them impossible tokens.
Tensor make_logits(int64_t rows, int64_t width) {
  Tensor logits = random_tensor({rows, width}, DType::kF32, 1, -8, 8);
  for (int64_t i = 1; i < logits.numel(); i += 4) logits.data<float>()[i] = -kInfinity;
  return logits;
}

class TokenLogProbCudaTest : public ::testing::TestWithParam<std::tuple<int64_t, int64_t>> {};

TEST_P(TokenLogProbCudaTest, HasTheBitsOfTheCpu) {
  const auto [rows, vocab_size] = GetParam();
  const int64_t width = vocab_size + 3;
  const float temperature = 0.7f;
  ExecContext cpu(1);
  const Tensor logits = make_logits(rows, width);
  const auto n = static_cast<size_t>(rows);
  std::vector<int32_t> targets(n);
  for (size_t t = 0; t < n; ++t)
    targets[t] = static_cast<int32_t>((4 * t) % static_cast<size_t>(vocab_size));
  std::vector<float> log_probs(n), entropy(n), lse(n);
  log_prob_from_logits(cpu, logits, vocab_size, temperature, targets, log_probs, entropy, lse);
  for_each_order([&, rows = rows, vocab_size = vocab_size] {
    const OnDevice logits_(logits);
    const ArrayOnDevice<int32_t> targets_(targets);
    const ArrayOnDevice<float> log_probs_(std::vector<float>(n, -1)), entropy_(log_probs),
        lse_(log_probs);
    TokenLogProbForwardCuda args{
        rows,           width,           vocab_size,        1.0f / temperature,
        logits_.data(), targets_.data(), log_probs_.data(), entropy_.data(),
        lse_.data()};
    cuda_ops<TokenLogProbCuda>().forward(args);
    EXPECT_EQ(log_probs_.to_host(), log_probs);
    EXPECT_EQ(entropy_.to_host(), entropy);
    EXPECT_EQ(lse_.to_host(), lse);
    const ArrayOnDevice<float> again_(std::vector<float>(n, -1));
    args.log_probs = again_.data();
    args.entropy = args.lse = nullptr;
    cuda_ops<TokenLogProbCuda>().forward(args);
    EXPECT_EQ(again_.to_host(), log_probs);
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, TokenLogProbCudaTest,
                         ::testing::Combine(::testing::Values(0, 1, 3),
                                            ::testing::Values(1, 37, 2048, 4500)));

TEST(TokenLogProbCudaTest, RowsWithoutADistributionGiveNan) {
  for_each_order([&] {
    for (float bad : {std::nanf(""), kInfinity}) {
      Tensor logits = random_tensor({1, 300}, DType::kF32, 1);
      logits.data<float>()[170] = bad;
      const OnDevice logits_(logits);
      const ArrayOnDevice<int32_t> targets_({5});
      const ArrayOnDevice<float> log_probs_({0.0f});
      cuda_ops<TokenLogProbCuda>().forward(
          {1, 300, 300, 1, logits_.data(), targets_.data(), log_probs_.data(), nullptr, nullptr});
      EXPECT_TRUE(std::isnan(log_probs_.to_host()[0]));
    }
  });
}

// The gradient of the logits is what the head's weight gradient is where the hidden state is 1.
TEST(TokenLogProbCudaTest, BackwardHasTheBitsOfTheCpu) {
  const int64_t vocab_size = 45, width = 48;
  ExecContext cpu(1);
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (bool with_entropy : {false, true}) {
      PackedWeight head;
      const Tensor master = random_tensor({width, 1}, DType::kF32, 1, -4, 4);
      pack_weight(cpu, master, dtype, true, head);
      const Tensor hidden = testing::tensor_of({1, 1}, dtype, {1.0f});
      Tensor logits = cpu.empty({1, width}, DType::kF32);
      linear_forward(cpu, hidden, head, logits);
      const std::vector<int32_t> targets = {17};
      std::vector<float> log_prob(1), entropy(1), lse(1), dlog_prob = {0.8f}, dentropy = {0.3f};
      log_prob_from_logits(cpu, logits, vocab_size, 0.7f, targets, log_prob, entropy, lse);
      if (!with_entropy) dentropy.clear();
      Tensor dhidden = cpu.empty({1, 1}, DType::kF32), dhead = cpu.zeros({width, 1}, DType::kF32);
      token_log_prob_backward(cpu, hidden, head, vocab_size, 0.7f, targets, lse, entropy, dlog_prob,
                              dentropy, dhidden, dhead);
      for_each_order([&] {
        const OnDevice logits_(logits), dlogits_({1, width}, dtype);
        const ArrayOnDevice<int32_t> targets_(targets);
        const ArrayOnDevice<float> entropy_(entropy), lse_(lse), dlog_prob_(dlog_prob),
            dentropy_(dentropy);
        cuda_ops<TokenLogProbCuda>().backward(
            {1, width, vocab_size, 1.0f / 0.7f, logits_.data(), targets_.data(), lse_.data(),
             with_entropy ? entropy_.data() : nullptr, dlog_prob_.data(),
             with_entropy ? dentropy_.data() : nullptr, dtype, dlogits_.raw()});
        EXPECT_EQ(testing::to_floats(dlogits_.to_host()), testing::to_floats(dhead));
      });
    }
}

TEST(PolicyLossCudaTest, HasTheBitsOfTheCpu) {
  const size_t n = 300;
  const std::vector<float> log_probs = random_values(n, 1, -3, 0), old = random_values(n, 2, -3, 0),
                           reference = random_values(n, 3, -3, 0),
                           entropy = random_values(n, 4, 0, 2),
                           advantages = random_values(n, 5, -2, 2);
  std::vector<float> weights = random_values(n, 6, 0, 1);
  for (size_t t = 0; t < n; t += 3) weights[t] = 0;
  for (KlType kl : {KlType::kNone, KlType::kK1, KlType::kK2, KlType::kK3, KlType::kK3Unbiased,
                    KlType::kK1Plus, KlType::kK3Plus}) {
    const PolicyLossConfig config{
        .clip_ratio_c = 3, .kl = kl, .kl_coef = 0.1f, .entropy_coef = 0.01f};
    std::vector<float> dlog_probs(n), dentropy(n);
    const PolicyLossSums sums = policy_loss(
        config, {log_probs, old, reference, entropy, advantages, weights}, dlog_probs, dentropy);
    for_each_order([&] {
      const ArrayOnDevice<float> log_probs_(log_probs), old_(old), reference_(reference),
          entropy_(entropy), advantages_(advantages), weights_(weights),
          dlog_probs_(std::vector<float>(n, 9)), dentropy_(std::vector<float>(n, 9));
      const ArrayOnDevice<PolicyLossSums> terms_{std::vector<PolicyLossSums>(n)},
          sums_({PolicyLossSums{.loss = 9}});
      cuda_ops<PolicyLossCuda>().run(
          {config, static_cast<int64_t>(n), log_probs_.data(), old_.data(),
           kl == KlType::kNone ? nullptr : reference_.data(), entropy_.data(), advantages_.data(),
           weights_.data(), dlog_probs_.data(), dentropy_.data(), terms_.data(), sums_.data()});
      EXPECT_EQ(dlog_probs_.to_host(), dlog_probs);
      EXPECT_EQ(dentropy_.to_host(), dentropy);
      const PolicyLossSums got = sums_.to_host()[0];
      EXPECT_EQ(std::memcmp(&got, &sums, sizeof sums), 0) << got.loss << " against " << sums.loss;
      EXPECT_GT(got.clipped + got.clipped_lower, 0);
    });
  }
}

}  // namespace
}  // namespace moerl::kernels
