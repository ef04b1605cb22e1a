#include "kernels/loss/token_log_prob.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/loss/token_log_prob_ref.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::random_values;
using testing::to_doubles;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int32_t> targets_for(int64_t rows, int64_t vocab_size) {
  std::vector<int32_t> targets;
  for (int64_t t = 0; t < rows; ++t)
    targets.push_back(static_cast<int32_t>((t * 31 + vocab_size - 1) % vocab_size));
  return targets;
}

struct Rows {
  std::vector<float> log_probs, entropy, lse;
  explicit Rows(int64_t rows)
      : log_probs(static_cast<size_t>(rows)), entropy(log_probs), lse(log_probs) {}
  Tensor tensor() const {
    const auto n = static_cast<int64_t>(lse.size());
    std::vector<float> all = log_probs;
    all.insert(all.end(), entropy.begin(), entropy.end());
    all.insert(all.end(), lse.begin(), lse.end());
    return Tensor::from<float>({3, n}, all);
  }
};

Rows from_logits(ExecContext& ctx, const Tensor& logits, int64_t vocab_size, float temperature,
                 const std::vector<int32_t>& targets) {
  Rows out(logits.dim(0));
  log_prob_from_logits(ctx, logits, vocab_size, temperature, targets, out.log_probs, out.entropy,
                       out.lse);
  return out;
}

class LogProbTest : public ::testing::TestWithParam<std::tuple<int64_t, float>> {};

TEST_P(LogProbTest, EqualsReferenceAndIgnoresPadding) {
  const auto [vocab_size, temperature] = GetParam();
  constexpr int64_t kRows = 5, kPadding = 3;
  ExecContext ctx(2);
  Tensor logits = random_tensor({kRows, vocab_size + kPadding}, DType::kF32, 1, -9, 9);
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t v = 0; v < kPadding; ++v)
      logits.data<float>()[t * (vocab_size + kPadding) + vocab_size + v] = v == 0 ? kNan : 1e30f;
  const std::vector<int32_t> targets = targets_for(kRows, vocab_size);
  const Rows got = from_logits(ctx, logits, vocab_size, temperature, targets);
  std::vector<double> log_probs, entropy, lse;
  for (int64_t t = 0; t < kRows; ++t) {
    std::vector<double> row = to_doubles(logits.rows(t, t + 1));
    row.resize(static_cast<size_t>(vocab_size));
    const ref::TokenLogProb expected =
        ref::token_log_prob(row, temperature, static_cast<size_t>(targets[static_cast<size_t>(t)]));
    log_probs.push_back(expected.log_prob);
    entropy.push_back(expected.entropy);
    lse.push_back(expected.lse);
  }
  const testing::Tolerance tolerance = testing::sum_tolerance(DType::kF32, 30);
  EXPECT_TRUE(testing::all_near(got.log_probs, log_probs, tolerance));
  EXPECT_TRUE(testing::all_near(got.entropy, entropy, tolerance));
  EXPECT_TRUE(testing::all_near(got.lse, lse, tolerance));
}

TEST_P(LogProbTest, EveryLevelThreadCountAndBatchGivesTheSameBits) {
  const auto [vocab_size, temperature] = GetParam();
  constexpr int64_t kRows = 40;
  const float t0 = temperature;
  const int64_t vocab = vocab_size;
  const Tensor logits = random_tensor({kRows, vocab}, DType::kF32, 1, -9, 9);
  const std::vector<int32_t> targets = targets_for(kRows, vocab);
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Rows all = from_logits(ctx, logits, vocab, t0, targets);
    for (size_t t = 0; t < kRows; t += 13) {
      const auto row = static_cast<int64_t>(t);
      const Rows one = from_logits(ctx, logits.rows(row, row + 1), vocab, t0, {targets[t]});
      EXPECT_EQ(one.log_probs[0], all.log_probs[t]);
      EXPECT_EQ(one.entropy[0], all.entropy[t]);
      EXPECT_EQ(one.lse[0], all.lse[t]);
    }
    return std::vector<Tensor>{all.tensor()};
  }));
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, LogProbTest,
                         ::testing::Combine(::testing::Values(1, 7, 16, 17, 100, 129, 513, 5000),
                                            ::testing::Values(1.0f, 0.7f)));

TEST(LogProbEdgeTest, OutputsThatAreNotAskedForDoNotChangeTheOthers) {
  ExecContext ctx(1);
  const Tensor logits = random_tensor({3, 129}, DType::kF32, 1, -9, 9);
  const std::vector<int32_t> targets = targets_for(3, 129);
  const Rows all = from_logits(ctx, logits, 129, 1, targets);
  std::vector<float> alone(3);
  log_prob_from_logits(ctx, logits, 129, 1, targets, alone, {}, {});
  EXPECT_EQ(alone, all.log_probs);
}

TEST(LogProbEdgeTest, MinusInfinityHasProbabilityZero) {
  ExecContext ctx(1);
  std::vector<float> values(20, -kInfinity);
  values[3] = values[18] = 2.5f;
  const Rows got = from_logits(ctx, Tensor::from<float>({1, 20}, values), 20, 1, {3});
  EXPECT_NEAR(got.log_probs[0], -std::log(2.0), 1e-6);
  EXPECT_NEAR(got.entropy[0], std::log(2.0), 1e-6);
  const Rows dropped = from_logits(ctx, Tensor::from<float>({1, 20}, values), 20, 1, {4});
  EXPECT_EQ(dropped.log_probs[0], -kInfinity);
}

TEST(LogProbEdgeTest, RowsWithoutADistributionGiveNan) {
  ExecContext ctx(1);
  for (size_t where : {size_t{0}, size_t{15}, size_t{16}, size_t{19}})
    for (float value : {kNan, kInfinity}) {
      std::vector<float> values(20, 1.0f);
      values[where] = value;
      const Rows got = from_logits(ctx, Tensor::from<float>({1, 20}, values), 20, 1, {7});
      EXPECT_TRUE(std::isnan(got.lse[0])) << where << " " << value;
    }
  const Tensor nothing = Tensor::from<float>({1, 20}, std::vector<float>(20, -kInfinity));
  EXPECT_TRUE(std::isnan(from_logits(ctx, nothing, 20, 1, {7}).lse[0]));
}

TEST(LogProbEdgeTest, LogitsOfAnySizeAreFine) {
  ExecContext ctx(1);
  const Rows got = from_logits(ctx, Tensor::from<float>({1, 3}, {1e4f, 1e4f, -1e4f}), 3, 1, {1});
  EXPECT_NEAR(got.log_probs[0], -std::log(2.0), 1e-3);
  EXPECT_NEAR(got.entropy[0], std::log(2.0), 1e-6);
}

/// A head, hidden rows and gradients; the vocabulary is padded by two rows of the head.
struct Problem {
  DType dtype;
  int64_t rows, vocab_size, dim, padded;
  Tensor hidden, master;
  PackedWeight head;
  std::vector<int32_t> targets;
  std::vector<float> dlog_probs, dentropy;

  Problem(ExecContext& ctx, DType type, int64_t num_rows, int64_t vocab, int64_t width)
      : dtype(type), rows(num_rows), vocab_size(vocab), dim(width), padded(vocab + 2) {
    hidden = random_tensor({rows, dim}, dtype, 1, -1, 1);
    // The master is rounded already, so that reference and kernel see the same weights.
    master = Tensor::from<float>({padded, dim},
                                 testing::to_floats(random_tensor({padded, dim}, dtype, 2, -1, 1)));
    pack_weight(ctx, master, dtype, true, head);
    targets = targets_for(rows, vocab);
    dlog_probs = random_values(rows, 3);
    dentropy = random_values(rows, 4);
  }
  Rows forward(ExecContext& ctx, float temperature) const {
    Rows out(rows);
    token_log_prob_forward(ctx, hidden, head, vocab_size, temperature, targets, out.log_probs,
                           out.entropy, out.lse);
    return out;
  }
  struct Grads {
    Tensor dhidden, dhead;
  };
  Grads backward(ExecContext& ctx, float temperature, bool with_entropy) const {
    const Rows saved = forward(ctx, temperature);
    Grads grads{ctx.empty({rows, dim}, dtype), ctx.zeros({padded, dim}, DType::kF32)};
    token_log_prob_backward(ctx, hidden, head, vocab_size, temperature, targets, saved.lse,
                            with_entropy ? saved.entropy : std::vector<float>{}, dlog_probs,
                            with_entropy ? dentropy : std::vector<float>{}, grads.dhidden,
                            grads.dhead);
    return grads;
  }
  std::vector<double> logits_row(size_t t) const {
    const std::vector<double> x = to_doubles(hidden), w = to_doubles(master);
    std::vector<double> logits(static_cast<size_t>(vocab_size));
    for (size_t v = 0; v < logits.size(); ++v)
      for (size_t d = 0; d < static_cast<size_t>(dim); ++d)
        logits[v] += x[t * static_cast<size_t>(dim) + d] * w[v * static_cast<size_t>(dim) + d];
    return logits;
  }
};

class TokenLogProbTest
    : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t, int64_t>> {
 protected:
  Problem problem(ExecContext& ctx) const {
    const auto [dtype, rows, vocab_size, dim] = GetParam();
    return Problem(ctx, dtype, rows, vocab_size, dim);
  }
};

TEST_P(TokenLogProbTest, ForwardHasTheBitsOfLinearThenLogProb) {
  ExecContext ctx(2);
  const Problem p = problem(ctx);
  Tensor logits = ctx.empty({p.rows, p.padded}, DType::kF32);
  linear_forward(ctx, p.hidden, p.head, logits);
  const Rows expected = from_logits(ctx, logits, p.vocab_size, 0.9f, p.targets);
  EXPECT_TRUE(testing::same_bits(p.forward(ctx, 0.9f).tensor(), expected.tensor()));
}

TEST_P(TokenLogProbTest, BackwardEqualsReference) {
  constexpr float kTemperature = 1.25f;
  ExecContext ctx(2);
  const Problem p = problem(ctx);
  for (bool with_entropy : {false, true}) {
    const Problem::Grads grads = p.backward(ctx, kTemperature, with_entropy);
    const std::vector<double> x = to_doubles(p.hidden), w = to_doubles(p.master);
    std::vector<double> dhidden(x.size()), dhead(w.size());
    const auto dim = static_cast<size_t>(p.dim);
    for (size_t t = 0; t < static_cast<size_t>(p.rows); ++t) {
      const std::vector<double> dlogits = ref::token_log_prob_backward(
          p.logits_row(t), kTemperature, static_cast<size_t>(p.targets[t]), p.dlog_probs[t],
          with_entropy ? p.dentropy[t] : 0.0);
      for (size_t v = 0; v < dlogits.size(); ++v)
        for (size_t d = 0; d < dim; ++d) {
          dhidden[t * dim + d] += dlogits[v] * w[v * dim + d];
          dhead[v * dim + d] += dlogits[v] * x[t * dim + d];
        }
    }
    // Each dlogit carries one rounding to the working type: its share of a sum of `rows` or of
    // `vocabulary` terms whose magnitudes add up to at most a few units a row.
    const double unit = p.dtype == DType::kBF16 ? 4e-3 : 1e-6;
    testing::Tolerance near_hidden = testing::sum_tolerance(p.dtype, p.vocab_size);
    testing::Tolerance near_head = testing::sum_tolerance(DType::kF32, p.rows);
    near_hidden.absolute += 2 * unit;
    near_head.absolute += unit * (1 + std::sqrt(static_cast<double>(p.rows)));
    EXPECT_TRUE(testing::all_near(grads.dhidden, dhidden, near_hidden));
    EXPECT_TRUE(testing::all_near(grads.dhead, dhead, near_head));
  }
}

TEST_P(TokenLogProbTest, SecondBackwardDoublesTheHeadGradient) {
  ExecContext ctx(2);
  const Problem p = problem(ctx);
  const Problem::Grads once = p.backward(ctx, 1, true);
  Tensor dhead = once.dhead.clone(), dhidden = ctx.empty({p.rows, p.dim}, p.dtype);
  const Rows saved = p.forward(ctx, 1);
  token_log_prob_backward(ctx, p.hidden, p.head, p.vocab_size, 1, p.targets, saved.lse,
                          saved.entropy, p.dlog_probs, p.dentropy, dhidden, dhead);
  std::vector<double> twice = to_doubles(once.dhead);
  for (double& value : twice) value *= 2;
  EXPECT_TRUE(testing::all_near(dhead, twice, testing::sum_tolerance(DType::kF32, p.rows)));
  EXPECT_TRUE(testing::same_bits(dhidden, once.dhidden));
}

TEST_P(TokenLogProbTest, EveryLevelAndThreadCountGivesTheSameBits) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Problem p = problem(ctx);
    const Problem::Grads grads = p.backward(ctx, 0.8f, true);
    return std::vector<Tensor>{p.forward(ctx, 0.8f).tensor(), grads.dhidden, grads.dhead};
  }));
}

INSTANTIATE_TEST_SUITE_P(Shapes, TokenLogProbTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 37), ::testing::Values(7, 129),
                                            ::testing::Values(5, 64)));
// More rows than one chunk holds.
INSTANTIATE_TEST_SUITE_P(Chunks, TokenLogProbTest,
                         ::testing::Values(std::tuple{DType::kF32, 1100, 17, 16},
                                           std::tuple{DType::kBF16, 1100, 17, 16}));

TEST(TokenLogProbReferenceTest, BackwardIsTheDerivative) {
  std::vector<double> logits = {0.3, -1.0, 2.0, 0.0, 1.1};
  const auto loss = [&] {
    const ref::TokenLogProb row = ref::token_log_prob(logits, 0.8, 2);
    return 0.7 * row.log_prob - 0.4 * row.entropy;
  };
  const std::vector<double> grad = ref::token_log_prob_backward(logits, 0.8, 2, 0.7, -0.4);
  for (size_t v = 0; v < logits.size(); ++v)
    EXPECT_NEAR(grad[v], testing::central_difference(loss, logits[v]), 1e-9);
}

TEST(TokenLogProbArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  const Problem p(ctx, DType::kF32, 3, 7, 8);
  Rows out(3);
  const auto forward = [&](const Tensor& hidden, int64_t vocab_size, float temperature,
                           const std::vector<int32_t>& targets, std::span<float> log_probs) {
    token_log_prob_forward(ctx, hidden, p.head, vocab_size, temperature, targets, log_probs,
                           out.entropy, out.lse);
  };
  const Tensor narrow = ctx.zeros({3, 7}, DType::kF32), half = ctx.zeros({3, 8}, DType::kBF16);
  std::vector<float> two(2);
  EXPECT_INVALID_ARGUMENT(forward(narrow, 7, 1, p.targets, out.log_probs), "hidden is [3, 7]");
  EXPECT_INVALID_ARGUMENT(forward(half, 7, 1, p.targets, out.log_probs), "hidden is bf16");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 10, 1, p.targets, out.log_probs), "vocab_size is 10");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 0, 1, p.targets, out.log_probs), "vocab_size is 0");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 7, 0, p.targets, out.log_probs), "temperature is 0");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 7, 1, {0, 7, 0}, out.log_probs), "targets[1] is 7");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 7, 1, {0, 0}, out.log_probs), "targets has 2");
  EXPECT_INVALID_ARGUMENT(forward(p.hidden, 7, 1, p.targets, two), "log_probs has 2");

  Tensor dhidden = ctx.zeros({3, 8}, DType::kF32), dhead = ctx.zeros({9, 8}, DType::kF32);
  const auto backward = [&](std::span<const float> lse, std::span<const float> entropy,
                            std::span<const float> dentropy, Tensor& dx, Tensor& dw) {
    token_log_prob_backward(ctx, p.hidden, p.head, 7, 1, p.targets, lse, entropy, p.dlog_probs,
                            dentropy, dx, dw);
  };
  EXPECT_INVALID_ARGUMENT(backward(two, out.entropy, p.dentropy, dhidden, dhead), "lse has 2");
  EXPECT_INVALID_ARGUMENT(backward(out.lse, {}, p.dentropy, dhidden, dhead), "entropy has 0");
  EXPECT_INVALID_ARGUMENT(backward(out.lse, out.entropy, two, dhidden, dhead), "dentropy has 2");
  EXPECT_INVALID_ARGUMENT(backward(out.lse, {}, {}, dhead, dhead), "dhidden is [9, 8]");
  EXPECT_INVALID_ARGUMENT(backward(out.lse, {}, {}, dhidden, dhidden), "dhead is [3, 8]");
}

}  // namespace
}  // namespace moerl::kernels
