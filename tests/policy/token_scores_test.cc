#include "policy/token_scores.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/file.h"
#include "common/json.h"
#include "policy/safetensors.h"
#include "policy/weights_io.h"
#include "testing/paths.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;
using Sequences = std::vector<std::vector<int32_t>>;

bool same(const TokenScores& a, const TokenScores& b) {
  return a.log_probs == b.log_probs && a.entropy == b.entropy && a.experts == b.experts;
}

TEST(TokenScoresTest, AgreesWithTransformers) {
  const fs::path golden = fs::path(MOERL_SOURCE_DIR) / "tests/golden/families/deepseek_v3";
  ExecContext ctx{2};
  const auto model = load_model(ctx, golden, DType::kF32);
  const auto expected = parse_json(read_file(golden / "expected.json"));
  const auto sequences = expected.at("tokens").get<Sequences>();
  const policy::SafetensorsFile file(golden / "logits.safetensors");
  const auto vocab = static_cast<size_t>(model->config().vocab_size);
  std::vector<float> logits(static_cast<size_t>(file.tensor("logits").shape.numel()));
  policy::convert_to_f32(file.tensor("logits"), logits.data());

  const std::vector<TokenScores> scores = score_tokens(ctx, *model, sequences);
  ASSERT_EQ(scores.size(), sequences.size());
  size_t row = 0;
  for (size_t s = 0; s < sequences.size(); ++s, ++row) {
    ASSERT_EQ(scores[s].log_probs.size(), sequences[s].size() - 1);
    for (size_t i = 0; i + 1 < sequences[s].size(); ++i, ++row) {
      const float* z = logits.data() + row * vocab;
      double sum = 0, mean = 0;
      for (size_t v = 0; v < vocab; ++v) sum += std::exp(double{z[v]});
      const double lse = std::log(sum);
      for (size_t v = 0; v < vocab; ++v) mean += std::exp(z[v] - lse) * z[v];
      const auto target = static_cast<size_t>(sequences[s][i + 1]);
      EXPECT_NEAR(scores[s].log_probs[i], z[target] - lse, 5e-5) << s << " " << i;
      EXPECT_NEAR(scores[s].entropy[i], lse - mean, 5e-5) << s << " " << i;
    }
  }
}

TEST(TokenScoresTest, ListsTheLikeliestTokensWithTheBitsOfTheirScores) {
  const ModelConfig config = tiny_config();
  ExecContext ctx{2};
  const auto model = make_model(ctx, config, DType::kF32);
  const Sequences sequences = random_sequences({40, 1, 9}, config);
  const int64_t vocab = config.sampled_vocab_size();
  const TokenScoreOptions options{.temperature = 0.7f, .num_top = vocab};
  const std::vector<TokenScores> scores = score_tokens(ctx, *model, sequences, options);
  ASSERT_TRUE(scores[1].top.empty());
  for (size_t s : {0, 2}) {
    ASSERT_EQ(scores[s].top.size(), sequences[s].size() - 1);
    for (size_t i = 0; i < scores[s].top.size(); ++i) {
      const std::vector<TokenLogProb>& top = scores[s].top[i];
      ASSERT_EQ(static_cast<int64_t>(top.size()), vocab);
      for (size_t r = 1; r < top.size(); ++r) ASSERT_GE(top[r - 1].log_prob, top[r].log_prob);
      const auto chosen = std::find_if(top.begin(), top.end(), [&](const TokenLogProb& t) {
        return t.token == sequences[s][i + 1];
      });
      ASSERT_NE(chosen, top.end());
      EXPECT_EQ(chosen->log_prob, scores[s].log_probs[i]) << s << " " << i;
    }
  }
}

class TokenScoresFormTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenScoresFormTest, BatchThreadsAndLengthChangeNoBit) {
  const ModelConfig config = with_form(tiny_config(), GetParam());
  ExecContext ctx{2}, single{1};
  const auto model = make_model(ctx, config, DType::kBF16);
  const Sequences sequences = random_sequences({7, 1, 40, 2, 33, 1, 65}, config);
  const auto scores =
      score_tokens(ctx, *model, sequences, {.max_tokens = 1000, .with_experts = true});
  for (int64_t max_tokens : {1, 8, 41, 75}) {
    const auto again =
        score_tokens(single, *model, sequences, {.max_tokens = max_tokens, .with_experts = true});
    ASSERT_EQ(again.size(), scores.size());
    for (size_t s = 0; s < scores.size(); ++s)
      EXPECT_TRUE(same(again[s], scores[s])) << max_tokens << " " << s;
  }
  // The scores of a beginning are the beginning of the scores.
  const Sequences cut = {{sequences[2].begin(), sequences[2].begin() + 17}};
  const TokenScores part = score_tokens(ctx, *model, cut, {.with_experts = true})[0];
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(part.log_probs[i], scores[2].log_probs[i]);
    EXPECT_EQ(part.entropy[i], scores[2].entropy[i]);
    EXPECT_EQ(part.experts[i], scores[2].experts[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, TokenScoresFormTest, ::testing::Values("expanded", "absorbed"),
                         [](const auto& info) { return info.param; });

TEST(TokenScoresTest, ExpertsAreThoseThatTrainingCounts) {
  ExecContext ctx{2};
  const ModelConfig config = tiny_config();
  const auto model = make_model(ctx, config, DType::kF32);
  const Sequences sequences = random_sequences({19, 30}, config);
  const auto scores = score_tokens(ctx, *model, sequences, {.with_experts = true});
  RoutingCounts counted;
  counted.per_layer.assign(static_cast<size_t>(config.num_moe_layers()),
                           std::vector<int64_t>(static_cast<size_t>(config.n_routed_experts)));
  for (size_t s = 0; s < sequences.size(); ++s) {
    ASSERT_EQ(scores[s].experts.size(), sequences[s].size());
    for (const auto& token : scores[s].experts) {
      ASSERT_EQ(token.size(), counted.per_layer.size());
      for (size_t layer = 0; layer < token.size(); ++layer) {
        ASSERT_EQ(token[layer].size(), static_cast<size_t>(config.num_experts_per_tok));
        for (int32_t expert : token[layer]) ++counted.per_layer[layer][static_cast<size_t>(expert)];
      }
    }
  }
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(config, DType::kF32, packed.num_blocks);
  TrainingPass pass;
  model->forward(ctx, packed.batch, cache, &pass);
  EXPECT_EQ(pass.routing.per_layer, counted.per_layer);
  EXPECT_TRUE(score_tokens(ctx, *model, sequences)[0].experts.empty());
}

TEST(TokenScoresTest, TemperatureScalesTheLogits) {
  ExecContext ctx{1};
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const Sequences sequences = random_sequences({9}, tiny_config());
  const TokenScores hot = score_tokens(ctx, *model, sequences, {.temperature = 1e6f})[0];
  for (size_t i = 0; i < hot.log_probs.size(); ++i) {
    EXPECT_NEAR(hot.log_probs[i], -std::log(61.0), 1e-3);
    EXPECT_NEAR(hot.entropy[i], std::log(61.0), 1e-5);
  }
}

TEST(TokenScoresTest, RefusesWhatIsNoSequenceOfTheModel) {
  ExecContext ctx{1};
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const auto score = [&](const Sequences& s) { return score_tokens(ctx, *model, s); };
  EXPECT_THROW(score({{1}, {}}), std::invalid_argument);
  EXPECT_THROW(score({{1, 61}}), std::invalid_argument);
  EXPECT_THROW(score({{-1}}), std::invalid_argument);
  EXPECT_THROW(score({std::vector<int32_t>(257, 1)}), std::invalid_argument);
  EXPECT_TRUE(score({}).empty());
}

}  // namespace
}  // namespace moerl::testing
