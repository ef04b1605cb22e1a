// The GSM8K recipe on real rows, with the real tokenizer and a model of the full architecture that
// is small and random.
#include <gtest/gtest.h>

#include "policy/weights_io.h"
#include "testing/paths.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;
using testing::Arguments;
using testing::run_moerl;
using testing::RunResult;

ModelConfig small_deepseek_v3() {
  ModelConfig c;
  c.vocab_size = 129280;
  c.hidden_size = 16;
  c.intermediate_size = 32;
  c.moe_intermediate_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.q_lora_rank = 16;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = 8;
  c.qk_rope_head_dim = 8;
  c.v_head_dim = 8;
  c.n_routed_experts = 8;
  c.num_experts_per_tok = 2;
  c.n_group = 4;
  c.topk_group = 2;
  c.routed_scaling_factor = 2.5;
  c.num_nextn_predict_layers = 1;
  c.max_position_embeddings = 1024;
  c.rope_scaling = {.type = "yarn",
                    .factor = 4,
                    .beta_fast = 32,
                    .beta_slow = 1,
                    .mscale = 1,
                    .mscale_all_dim = 1,
                    .original_max_position_embeddings = 256};
  c.bos_token_id = 0;
  c.eos_token_id = 1;
  return c;
}

class Gsm8k : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path data = fs::path(MOERL_SOURCE_DIR) / "../shared/data";
    const fs::path tokenizer = data / "deepseek/tokenizer_r1.json";
    rows_ = fs::weakly_canonical(data / "gsm8k/gsm8k_train.jsonl");
    held_out_ = fs::weakly_canonical(data / "gsm8k/gsm8k_test.jsonl");
    for (const fs::path& file : {tokenizer, rows_, held_out_})
      if (!fs::exists(file)) GTEST_SKIP() << file << " is not on this machine";
    ExecContext ctx(1, detect_isa());
    Transformer model(small_deepseek_v3(), DType::kBF16);
    model.init_weights(11);
    save_model(ctx, model, directory_ / "model", DType::kBF16);
    fs::copy_file(tokenizer, directory_ / "model/tokenizer.json");
  }

  Arguments overrides() const {
    return {
        "model.path=" + (directory_ / "model").string(),
        "task.train_files=[" + rows_.string() + "]", "task.val_files=[" + held_out_.string() + "]",
        "num_threads=2", "task.max_train_rows=64", "task.max_val_rows=2",
        "rollout.kv_cache_gb=0.02", "trainer.test_freq=0", "stages.0.train_batch_size=2",
        "stages.0.actor.ppo_mini_batch_size=1", "stages.0.total_training_steps=2",
        "stages.0.max_response_length=16", "stages.0.overlong_buffer.len=8", "stages.0.rollout.n=2",
        // A random model earns nothing, so that its groups would all be dropped.
        "stages.0.filter_groups.enable=false", "stages.0.actor.entropy_coeff=0.01"};
  }
  static std::string recipe() {
    return std::string(MOERL_SOURCE_DIR) + "/experiments/configs/gsm8k.yaml";
  }

  testing::TempDirectory directory_;
  fs::path rows_, held_out_;
};

TEST_F(Gsm8k, TheRecipeTrainsAHuggingFaceModelOnRealRows) {
  const RunResult result = testing::train(directory_ / "run", overrides(), {}, recipe());
  ASSERT_EQ(result.metrics.size(), 3u);  // before training, and two steps
  EXPECT_TRUE(result.metrics[0].contains("val-core/gsm8k/acc/mean@1")) << result.metrics[0];
  for (size_t step : {1u, 2u}) {
    const nlohmann::json& line = result.metrics[step];
    EXPECT_EQ(line.at("training/rollout_probs_diff_max"), 0.0) << line;
    EXPECT_GT(line.at("actor/grad_norm"), 0.0) << line;
    EXPECT_GT(line.at("prompt_length/mean"), 60.0) << line;
  }
  ASSERT_EQ(result.samples.size(), 2u + 2 * 2 * 2 + 2);
  for (const std::string& row : result.samples) {
    EXPECT_NE(row.find("data_source=gsm8k|"), std::string::npos) << row;
    EXPECT_NE(row.find("|prompt=<｜begin▁of▁sentence｜>The following is a dialogue"),
              std::string::npos)
        << row;
  }
  // What comes out is a model directory of the same kind, with the tokenizer it came with.
  const fs::path checkpoint = testing::last_checkpoint(directory_ / "run");
  const ModelConfig config = read_model_config(checkpoint);
  EXPECT_EQ(config.vocab_size, 129280);
  EXPECT_EQ(config.num_nextn_predict_layers, 1);
  EXPECT_EQ(config.num_parameters(), small_deepseek_v3().num_parameters());
  EXPECT_EQ(testing::file_bytes(checkpoint / "tokenizer.json"),
            testing::file_bytes(directory_ / "model/tokenizer.json"));
  EXPECT_NE(result.weights, testing::file_bytes(directory_ / "model/model.safetensors"));
}

TEST_F(Gsm8k, CheckFitsTheDefaultsToTheModel) {
  Arguments arguments = {"check", recipe()};
  for (const std::string& each : overrides())
    if (!each.starts_with("stages.") && !each.starts_with("task.max_train_rows"))
      arguments.push_back(each);
  const testing::Outcome outcome = run_moerl(arguments);
  // The model is too short for the recipe's answers; nothing else is wrong.
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("max_position_embeddings (1024)"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("7473 training rows"), std::string::npos) << outcome.out;
}

TEST(Gsm8kRecipe, AModelThatIsNotThereIsNamed) {
  testing::TempDirectory directory;
  const testing::Outcome outcome = run_moerl(testing::train_arguments(
      directory / "run", {}, std::string(MOERL_SOURCE_DIR) + "/experiments/configs/gsm8k.yaml"));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("gsm8k/train.jsonl"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace moerl
