// Against Hugging Face transformers: weights, logits, loss and every gradient of a tiny model,
// written by tests/golden/deepseek_v3_golden.py.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/file.h"
#include "policy/safetensors.h"
#include "policy/weights_io.h"
#include "testing/paths.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/tolerance.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(MOERL_SOURCE_DIR) / "tests" / "golden" / "deepseek_v3_golden";

class GoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ModelConfig config = read_model_config(kGolden);
    config.mla_form = GetParam();
    model = std::make_unique<Transformer>(config, DType::kF32);
    load_weights(ctx, *model, kGolden);
    model->pack(ctx);
    model->enable_gradients();
    const auto expected = nlohmann::json::parse(read_file(kGolden / "expected.json"));
    tokens = expected.at("tokens").get<std::vector<std::vector<int32_t>>>();
    expected_loss = expected.at("loss").get<double>();
  }

  ExecContext ctx{2};
  std::unique_ptr<Transformer> model;
  std::vector<std::vector<int32_t>> tokens;
  double expected_loss = 0;
};

std::vector<double> read(const policy::SafetensorsFile& file, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(file.tensor(name).shape.numel()));
  policy::convert_to_f32(file.tensor(name), values.data());
  return {values.begin(), values.end()};
}

TEST_P(GoldenTest, LogitsLossAndGradientsMatchTransformers) {
  const SequenceBatch packed = pack_sequences(tokens);
  KvCache cache(model->config(), DType::kF32, packed.num_blocks);
  TrainingPass pass;
  const Tensor hidden = model->forward(ctx, packed.batch, cache, &pass);
  std::vector<int32_t> every(static_cast<size_t>(hidden.dim(0)));
  std::iota(every.begin(), every.end(), 0);
  const policy::SafetensorsFile logits(kGolden / "logits.safetensors");
  EXPECT_TRUE(all_near(model->logits(ctx, hidden, every), read(logits, "logits"), {1e-4, 1e-4}));

  // The mean over all tokens that have a next one.
  const std::vector<int32_t> targets = next_tokens(tokens);
  const size_t n = targets.size(), length = tokens[0].size();
  const float weight = 1.0f / static_cast<float>(n - tokens.size());
  std::vector<float> log_probs(n), entropy(n), lse(n), dlog_probs(n, -weight);
  for (size_t i = length - 1; i < n; i += length) dlog_probs[i] = 0;
  const int64_t vocab = model->config().vocab_size;
  kernels::token_log_prob_forward(ctx, hidden, model->head(), vocab, 1, targets, log_probs, entropy,
                                  lse);
  double loss = 0;
  for (size_t i = 0; i < n; ++i) loss += double{dlog_probs[i]} * log_probs[i];
  EXPECT_NEAR(loss, expected_loss, 1e-5);

  Tensor dhidden = ctx.empty(hidden.shape(), DType::kF32);
  kernels::token_log_prob_backward(ctx, hidden, model->head(), vocab, 1, targets, lse, entropy,
                                   dlog_probs, {}, dhidden, model->head_grad());
  model->backward(ctx, dhidden, packed.batch, pass);
  const policy::SafetensorsFile gradients(kGolden / "gradients.safetensors");
  for (const Parameter* p : std::as_const(*model).parameters()) {
    if (p->is_buffer) continue;
    EXPECT_TRUE(all_near(p->grad, read(gradients, p->name), {1e-3, 2e-5})) << p->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GoldenTest, ::testing::Values("expanded", "absorbed"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace moerl::testing
