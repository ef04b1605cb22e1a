// A row's bits depend on the weights and its own sequence, and on nothing else: not on the batch,
// on prefill or decode, on paging, on threads, on the instruction level.
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "policy/transformer.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {
namespace {

struct Case {
  std::string name;
  ModelConfig config;
  Precision precision;
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

/// Every family, and both forms of latent attention, in every precision.
std::vector<Case> cases() {
  const std::pair<std::string, ModelConfig> models[] = {
      {"expanded", with_form(tiny_config(), "expanded")},
      {"absorbed", with_form(tiny_config(), "absorbed")},
      {"DeepSeekV2", tiny_deepseek_v2()},
      {"Llama", tiny_llama()},
      {"Qwen2", tiny_qwen2()},
      {"Qwen3", tiny_qwen3()},
      {"Qwen3Moe", tiny_qwen3_moe()}};
  std::vector<Case> all;
  for (const auto& [name, config] : models)
    for (Precision precision : {Precision(DType::kF32), Precision(DType::kBF16), Precision::fp8()})
      all.push_back({std::string(precision.name()) + "_" + name, config, precision});
  return all;
}

class TransformerInvarianceTest : public ::testing::TestWithParam<Case> {
 protected:
  TransformerInvarianceTest()
      : config(GetParam().config),
        model(make_model(ctx, config, GetParam().precision)),
        sequences(random_sequences({70, 3, 41, 32, 1}, config)) {}

  /// Hidden states of each sequence, computed alone.
  Tensor alone(size_t i) {
    const SequenceBatch packed = pack_sequences({&sequences[i], 1});
    KvCache cache(config, model->dtype(), packed.num_blocks);
    return model->forward(ctx, packed.batch, cache);
  }
  /// Hidden states of positions [begin, end) of a sequence, whose earlier ones are in the cache.
  Tensor forward(KvCache& cache, const std::vector<int32_t>& tokens, int64_t begin, int64_t end,
                 const std::vector<int32_t>& blocks) {
    ForwardBatch batch;
    for (int64_t p = begin; p < end; ++p) {
      batch.token_ids.push_back(tokens[static_cast<size_t>(p)]);
      batch.positions.push_back(static_cast<int32_t>(p));
    }
    batch.segments.push_back({0, end - begin, begin, blocks});
    return model->forward(ctx, batch, cache);
  }

  ExecContext ctx{2};
  ModelConfig config;
  std::unique_ptr<Transformer> model;
  std::vector<std::vector<int32_t>> sequences;
};

TEST_P(TransformerInvarianceTest, SequenceAloneEqualsSequenceInBatch) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(config, model->dtype(), packed.num_blocks);
  const Tensor hidden = model->forward(ctx, packed.batch, cache);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const kernels::AttentionSegment& s = packed.batch.segments[i];
    EXPECT_TRUE(same_bits(hidden.rows(s.first_row, s.first_row + s.num_rows), alone(i)))
        << "sequence " << i;
  }
}

TEST_P(TransformerInvarianceTest, TrainingForwardEqualsInference) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(config, model->dtype(), packed.num_blocks);
  for (bool recompute : {false, true}) {
    TrainingPass pass{.recompute = recompute};
    const Tensor trained = model->forward(ctx, packed.batch, cache, &pass);
    EXPECT_TRUE(same_bits(trained, model->forward(ctx, packed.batch, cache)));
  }
}

/// Feeds the sequences in pieces of the given lengths (the last repeats), all sequences side by
/// side, over blocks scattered in the cache.
TEST_P(TransformerInvarianceTest, ChunksAndTokenByTokenDecodingEqualOnePass) {
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>{1}, {5}, {40, 1}, {32}, {17, 30, 2}}) {
    KvCache cache(config, model->dtype(), 40);
    std::vector<std::vector<int32_t>> tables(sequences.size());
    int32_t used = 0;
    for (int64_t block = 0; block < 3; ++block)  // neighbours in a sequence are not in the cache
      for (std::vector<int32_t>& table : tables) table.push_back(39 - used++);
    std::vector<int64_t> done(sequences.size());
    std::vector<Tensor> hidden;
    for (const auto& s : sequences)
      hidden.push_back(
          Tensor::zeros({static_cast<int64_t>(s.size()), config.hidden_size}, model->dtype()));

    for (size_t round = 0;; ++round) {
      const int64_t piece = pieces[std::min(round, pieces.size() - 1)];
      ForwardBatch batch;
      std::vector<size_t> members;
      for (size_t i = 0; i < sequences.size(); ++i) {
        const int64_t n = std::min(piece, static_cast<int64_t>(sequences[i].size()) - done[i]);
        if (n == 0) continue;
        batch.segments.push_back({batch.num_tokens(), n, done[i], tables[i]});
        for (int64_t p = done[i]; p < done[i] + n; ++p) {
          batch.token_ids.push_back(sequences[i][static_cast<size_t>(p)]);
          batch.positions.push_back(static_cast<int32_t>(p));
        }
        members.push_back(i);
      }
      if (members.empty()) break;
      const Tensor out = model->forward(ctx, batch, cache);
      for (size_t m = 0; m < members.size(); ++m) {
        const kernels::AttentionSegment& s = batch.segments[m];
        std::memcpy(hidden[members[m]].rows(s.start, s.start + s.num_rows).raw(),
                    out.rows(s.first_row, s.first_row + s.num_rows).raw(),
                    static_cast<size_t>(out.rows(0, s.num_rows).bytes()));
        done[members[m]] += s.num_rows;
      }
    }
    for (size_t i = 0; i < sequences.size(); ++i)
      EXPECT_TRUE(same_bits(hidden[i], alone(i)))
          << "sequence " << i << " in pieces of " << pieces[0];
  }
}

TEST_P(TransformerInvarianceTest, DecodingBeyondASplitOfTheKeysEqualsOnePass) {
  const int64_t split = kernels::kKvSplit, length = split + 2;
  config.max_position_embeddings = 2 * split;
  model = make_model(ctx, config, GetParam().precision);
  const std::vector<int32_t> tokens = random_sequences({length}, config)[0];
  std::vector<int32_t> table(static_cast<size_t>(length / kernels::kKvBlock) + 1);
  std::iota(table.rbegin(), table.rend(), 0);
  KvCache cache(config, model->dtype(), static_cast<int64_t>(table.size()));
  const Tensor whole = forward(cache, tokens, 0, length, table);
  for (int64_t p = split - 1; p < length; ++p)
    EXPECT_TRUE(same_bits(forward(cache, tokens, p, p + 1, table), whole.rows(p, p + 1)))
        << "position " << p;
}

TEST_P(TransformerInvarianceTest, CopiedBlockContinuesASequence) {
  const std::vector<int32_t>& tokens = sequences[2];  // 41 tokens: the second block is partly full
  KvCache cache(config, model->dtype(), 8);
  const std::vector<int32_t> table = {6, 1}, fork = {6, 3};
  forward(cache, tokens, 0, 40, table);
  cache.copy_block(ctx, 1, 3);
  EXPECT_TRUE(same_bits(forward(cache, tokens, 40, 41, fork), alone(2).rows(40, 41)));
}

TEST_P(TransformerInvarianceTest, ThreadsAndInstructionLevelsChangeNothing) {
  const LossOptions options{.balance_alpha = 0.1,
                            .mtp_weight = config.num_nextn_predict_layers > 0 ? 0.3 : 0};
  EXPECT_TRUE(same_bits_everywhere([&](ExecContext& other) {
    model->pack(other);
    model->zero_gradients();
    std::vector<Tensor> out;
    const SequenceBatch packed = pack_sequences(sequences);
    KvCache cache(config, model->dtype(), packed.num_blocks);
    const Tensor hidden = model->forward(other, packed.batch, cache);
    const std::vector<int32_t> rows = {3, 70, 0, 146};
    out.push_back(hidden);
    out.push_back(model->logits(other, hidden, rows));
    loss_and_gradients(other, *model, sequences, options);
    for (Tensor& gradient : gradients(*model)) out.push_back(std::move(gradient));
    return out;
  }));
}

TEST_P(TransformerInvarianceTest, RecomputeGivesTheSameGradients) {
  LossOptions options{.balance_alpha = 0.1,
                      .mtp_weight = config.num_nextn_predict_layers > 0 ? 0.3 : 0};
  const LossResult kept = loss_and_gradients(ctx, *model, sequences, options);
  const std::vector<Tensor> expected = gradients(*model);
  model->zero_gradients();
  options.recompute = true;
  const LossResult again = loss_and_gradients(ctx, *model, sequences, options);
  EXPECT_EQ(again.loss, kept.loss);
  EXPECT_EQ(again.routing.per_layer, kept.routing.per_layer);
  const std::vector<Tensor> got = gradients(*model);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerInvarianceTest, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace moerl::testing
