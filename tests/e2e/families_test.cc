// Whole runs, cold start and GRPO, of every family: what is sampled is what is trained.
#include <gtest/gtest.h>

#include "common/file.h"
#include "policy/weights_io.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

ModelConfig small(const std::string& model_type) {
  ModelConfig c = ModelConfig::of_family(model_type);
  c.vocab_size = 352;
  c.hidden_size = 32;
  c.intermediate_size = 64;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.max_position_embeddings = 128;
  c.initializer_range = 0.06;
  c.bos_token_id = 0;
  c.eos_token_id = 1;
  if (c.attention == AttentionKind::kGrouped) {
    c.num_key_value_heads = 2;
    c.head_dim = 16;
  } else {
    c.kv_lora_rank = 16;
    c.qk_nope_head_dim = 16;
    c.qk_rope_head_dim = 8;
    c.v_head_dim = 16;
  }
  if (c.scoring_func == "softmax") {
    c.n_routed_experts = 4;
    c.num_experts_per_tok = 2;
    c.moe_intermediate_size = 32;
  }
  return c;
}

class FamilyRun : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, FamilyRun,
                         ::testing::Values("deepseek_v2", "llama", "qwen2", "qwen3", "qwen3_moe"),
                         [](const auto& info) { return info.param; });

TEST_P(FamilyRun, TrainsAndSamplesWithTheSameBits) {
  testing::TempDirectory directory;
  write_file_atomic(directory / "config.json", small(GetParam()).to_json(DType::kBF16));
  const testing::RunResult result =
      testing::train(directory / "run", {"model.config=" + (directory / "config.json").string()});
  int steps = 0;
  for (const nlohmann::json& line : result.metrics) {
    if (!line.contains("training/rollout_probs_diff_max")) continue;
    EXPECT_EQ(line.at("training/rollout_probs_diff_max"), 0.0) << line;
    EXPECT_GT(line.at("actor/grad_norm"), 0.0) << line;
    ++steps;
  }
  EXPECT_GE(steps, 2);  // of four; the groups of a step may all teach nothing
  const ModelConfig config = read_model_config(testing::last_checkpoint(directory / "run"));
  EXPECT_EQ(config.model_type, GetParam());
  EXPECT_EQ(config.num_parameters(), small(GetParam()).num_parameters());
}

}  // namespace
}  // namespace moerl
