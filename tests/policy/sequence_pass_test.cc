#include "policy/sequence_pass.h"

#include <gtest/gtest.h>

#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {
namespace {

/// Prompts and completions of the given lengths.
std::vector<TrainSequence> random_train_sequences(
    const std::vector<std::pair<int64_t, int64_t>>& lengths, const ModelConfig& config) {
  std::vector<TrainSequence> sequences;
  for (const auto& [prompt, completion] : lengths) {
    const uint64_t seed = 50 + 2 * sequences.size();
    sequences.push_back({random_tokens(prompt, config.vocab_size, seed),
                         random_tokens(completion, config.vocab_size, seed + 1)});
  }
  return sequences;
}
std::vector<const TrainSequence*> pointers(const std::vector<TrainSequence>& sequences) {
  std::vector<const TrainSequence*> out;
  for (const TrainSequence& s : sequences) out.push_back(&s);
  return out;
}
SequencePass make_pass(ExecContext& ctx, const Transformer& model,
                       const std::vector<TrainSequence>& sequences,
                       const SequencePass::Options& options = {}, bool training = false) {
  const std::vector<const TrainSequence*> view = pointers(sequences);
  KvCache cache(model.config(), model.dtype(), SequencePass::num_blocks_needed(view));
  return SequencePass(ctx, model, view, cache, options, training);
}

const std::vector<std::pair<int64_t, int64_t>> kLengths = {{5, 9}, {1, 3}, {40, 70}, {2, 1}};

TEST(SplitMicroBatchesTest, FillsRunsUpToTheLimitInOrder) {
  const std::vector<TrainSequence> s =
      random_train_sequences({{2, 3}, {1, 4}, {3, 3}, {1, 1}, {5, 6}, {1, 1}}, tiny_config());
  const std::vector<const TrainSequence*> view = pointers(s);  // 5, 5, 6, 2, 11, 2 tokens
  EXPECT_EQ(split_micro_batches(view, 10), (std::vector<int64_t>{0, 2, 4, 5, 6}));
  EXPECT_EQ(split_micro_batches(view, 9), (std::vector<int64_t>{0, 1, 2, 4, 5, 6}));
  EXPECT_EQ(split_micro_batches(view, 1), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(split_micro_batches(view, 31), (std::vector<int64_t>{0, 6}));
  EXPECT_EQ(split_micro_batches(view, 30), (std::vector<int64_t>{0, 5, 6}));
}

TEST(SplitMicroBatchesTest, EmptyInputHasNoRun) {
  EXPECT_EQ(split_micro_batches({}, 10), std::vector<int64_t>{0});
  EXPECT_INVALID_ARGUMENT(split_micro_batches({}, 0), "max_tokens");
}

TEST(SequencePassTest, EqualsTheForwardOfEachSequenceAloneBitForBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const char* form : {"expanded", "absorbed"}) {
      ExecContext ctx(2), alone_ctx(1);
      const auto model = make_model(ctx, with_form(tiny_config(), form), dtype);
      const std::vector<TrainSequence> sequences = random_train_sequences(kLengths, tiny_config());
      constexpr float kTemperature = 0.7f;
      const SequencePass pass =
          make_pass(ctx, *model, sequences, {.temperature = kTemperature}, true);
      ASSERT_EQ(pass.offsets().size(), sequences.size() + 1);
      int64_t begin = 0;
      for (size_t i = 0; i < sequences.size(); ++i) {
        const TrainSequence& s = sequences[i];
        std::vector<int32_t> all = s.prompt;
        all.insert(all.end(), s.completion.begin(), s.completion.end());
        const SequenceBatch packed = pack_sequences(std::vector<std::vector<int32_t>>{all});
        KvCache cache(model->config(), dtype, packed.num_blocks);
        const Tensor hidden = model->forward(alone_ctx, packed.batch, cache);
        std::vector<int32_t> rows;
        for (size_t t = 0; t < s.completion.size(); ++t)
          rows.push_back(static_cast<int32_t>(s.prompt.size() + t) - 1);
        const Tensor logits = model->logits(alone_ctx, hidden, rows);
        std::vector<float> log_probs(rows.size()), entropy(rows.size());
        kernels::log_prob_from_logits(alone_ctx, logits, model->config().vocab_size, kTemperature,
                                      s.completion, log_probs, entropy, {});
        EXPECT_EQ(pass.offsets()[i], begin);
        for (size_t t = 0; t < rows.size(); ++t) {
          EXPECT_EQ(pass.log_probs()[static_cast<size_t>(begin) + t], log_probs[t]);
          EXPECT_EQ(pass.entropy()[static_cast<size_t>(begin) + t], entropy[t]);
        }
        begin += static_cast<int64_t>(rows.size());
      }
      EXPECT_EQ(pass.offsets().back(), begin);
      EXPECT_EQ(pass.log_probs().size(), static_cast<size_t>(begin));
    }
  }
}

TEST(SequencePassTest, DistributionsCountTheSampledVocabularyOnly) {
  ExecContext ctx(1);
  ModelConfig config = tiny_config();
  config.num_token_ids = 50;
  const auto model = make_model(ctx, config, DType::kF32);
  TrainSequence s{random_tokens(4, 50, 1), {}};
  double total = 0;
  for (int32_t token = 0; token < 50; ++token) {
    s.completion = {token};
    total += std::exp(static_cast<double>(make_pass(ctx, *model, {s}).log_probs()[0]));
  }
  EXPECT_NEAR(total, 1, 1e-5);
}

TEST(SequencePassTest, EmptyPromptOrCompletionIsRefused) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, plain_config(), DType::kF32);
  EXPECT_INVALID_ARGUMENT(make_pass(ctx, *model, {{{}, {1}}}), "0 prompt");
  EXPECT_INVALID_ARGUMENT(make_pass(ctx, *model, {{{1}, {}}}), "0 completion");
}

TEST(SequencePassTest, MtpLossIsThatOfCompletionTokensTwoAhead) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const std::vector<TrainSequence> sequences =
      random_train_sequences({{5, 4}, {1, 3}, {1, 1}}, tiny_config());
  const SequencePass pass =
      make_pass(ctx, *model, sequences, {.mtp_loss_weight = 0.3, .mtp_token_weight = 0.5}, true);
  double expected = 0;
  for (const TrainSequence& s : sequences) {
    std::vector<int32_t> all = s.prompt;
    all.insert(all.end(), s.completion.begin(), s.completion.end());
    std::vector<int32_t> next(all.begin() + 1, all.end());
    next.push_back(0);
    const SequenceBatch packed = pack_sequences(std::vector<std::vector<int32_t>>{all});
    KvCache cache(model->config(), DType::kF32, packed.num_blocks);
    const Tensor hidden = model->forward(ctx, packed.batch, cache);
    const Tensor mtp = model->mtp_forward(ctx, hidden, next, packed.batch, cache, nullptr);
    for (size_t target = std::max<size_t>(s.prompt.size(), 2); target < all.size(); ++target) {
      const std::vector<int32_t> row = {static_cast<int32_t>(target) - 2};
      float log_prob = 0;
      kernels::log_prob_from_logits(ctx, model->logits(ctx, mtp, row), model->config().vocab_size,
                                    1, std::vector<int32_t>{all[target]}, {&log_prob, 1}, {}, {});
      expected -= 0.5 * log_prob;
    }
  }
  EXPECT_NEAR(pass.mtp_loss(), expected, 1e-6 * expected);
}

/// Every expert is chosen, so that no step of a finite difference changes the choice.
ModelConfig smooth_config() {
  ModelConfig c = tiny_config();
  c.num_experts_per_tok = c.n_routed_experts;
  c.topk_group = c.n_group;
  return c;
}

/// A scalar of the pass with a different weight for every token, and the gradients that it asks
/// for.
class BackwardTest : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr double kMtp = 0.3;
  static std::vector<float> values(size_t n, uint64_t seed) {
    return random_values(static_cast<int64_t>(n), seed);
  }
  SequencePass::Options options() const {
    return {.temperature = 0.8f,
            .recompute = GetParam(),
            .balance_alpha = 0.05,
            .balance_scale = 0.25,
            .mtp_loss_weight = kMtp,
            .mtp_token_weight = 0.125};
  }
  double loss(const SequencePass& pass) const {
    const std::vector<float> a = values(pass.log_probs().size(), 1),
                             b = values(pass.entropy().size(), 2);
    double sum = kMtp * pass.mtp_loss() + pass.balance_loss();
    for (size_t i = 0; i < a.size(); ++i)
      sum += double{a[i]} * pass.log_probs()[i] + double{b[i]} * pass.entropy()[i];
    return sum;
  }
};

TEST_P(BackwardTest, EqualsFiniteDifferencesAlongTheGradientOfEachTensor) {
  ExecContext ctx(2);
  const auto model = make_model(ctx, smooth_config(), DType::kF32);
  const std::vector<TrainSequence> sequences =
      random_train_sequences({{5, 9}, {1, 3}, {2, 1}, {20, 30}}, smooth_config());
  SequencePass pass = make_pass(ctx, *model, sequences, options(), true);
  const size_t n = pass.log_probs().size();
  pass.backward(ctx, *model, values(n, 1), values(n, 2));

  const auto loss_at = [&] {
    model->pack(ctx);
    return loss(make_pass(ctx, *model, sequences, options(), true));
  };
  int checked = 0;
  for (Parameter* p : model->parameters()) {
    if (p->is_buffer) continue;
    const std::vector<double> g = to_doubles(p->grad);
    double norm = 0;
    for (double x : g) norm += x * x;
    norm = std::sqrt(norm);
    if (norm < 0.5) continue;  // too flat for differences in fp32
    const Tensor kept = p->value.clone();
    const auto moved = [&](double step) {
      for (size_t i = 0; i < g.size(); ++i)
        p->value.data<float>()[i] = static_cast<float>(kept.data<float>()[i] + step * g[i] / norm);
      return loss_at();
    };
    constexpr double kStep = 2e-3;
    const double slope = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    std::copy_n(kept.data<float>(), kept.numel(), p->value.data<float>());
    EXPECT_NEAR(slope, norm, 0.02 * norm) << p->name;
    ++checked;
  }
  EXPECT_GT(checked, 20);
}

INSTANTIATE_TEST_SUITE_P(Recompute, BackwardTest, ::testing::Bool());

}  // namespace
}  // namespace moerl::testing
