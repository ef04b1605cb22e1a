#include "policy/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/error.h"

namespace moerl {
namespace {

/// config.json of DeepSeek-V3.
constexpr const char* kDeepSeekV3 = R"({
  "architectures": ["DeepseekV3ForCausalLM"],
  "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
  "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
  "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
  "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v3", "moe_intermediate_size": 2048,
  "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
  "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8,
  "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1,
  "pretraining_tp": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                          "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
                   "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
                   "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "use_cache": true,
  "v_head_dim": 128, "vocab_size": 129280
})";

ModelConfig v3() { return ModelConfig::from_json("config.json", kDeepSeekV3); }

/// The text with one piece replaced. REQUIRES: it occurs.
std::string v3_with(const std::string& from, const std::string& to) {
  std::string text = kDeepSeekV3;
  return text.replace(text.find(from), from.size(), to);
}

std::string refusal(const std::string& text) {
  try {
    ModelConfig::from_json("config.json", text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfigTest, ReadsThePublishedConfiguration) {
  const ModelConfig c = v3();
  EXPECT_EQ(c.num_hidden_layers, 61);
  EXPECT_EQ(c.q_lora_rank, 1536);
  EXPECT_EQ(c.rope_scaling.type, "yarn");
  EXPECT_EQ(c.rope_scaling.factor, 40);
  EXPECT_EQ(c.eos_token_id, 1);
  EXPECT_FALSE(c.is_moe_layer(2));
  EXPECT_TRUE(c.is_moe_layer(3));
  EXPECT_EQ(c.num_moe_layers(), 58);
  EXPECT_NEAR(c.softmax_scale(), 0.1352337789, 1e-8);
  EXPECT_EQ(c.gate().topk_group, 4);
  EXPECT_EQ(c.rope().dim, 64);
}

TEST(ModelConfigTest, CountsTheParametersOfThePublishedModel) {
  ModelConfig c = v3();
  EXPECT_EQ(c.num_parameters(), 671'026'419'200 + 11'610'068'224);
  c.num_nextn_predict_layers = 0;
  EXPECT_EQ(c.num_parameters(), 671'026'419'200);
  EXPECT_NEAR(static_cast<double>(c.num_active_parameters()), 37.55e9, 0.01e9);
}

TEST(ModelConfigTest, CacheOfTheAbsorbedFormIsTheLatent) {
  ModelConfig c = v3();
  EXPECT_EQ(c.num_kv_heads(), 128);
  EXPECT_EQ(c.k_head_dim(), 192);
  EXPECT_EQ(c.cached_v_head_dim(), 128);
  c.mla_form = "absorbed";
  EXPECT_EQ(c.num_kv_heads(), 1);
  EXPECT_EQ(c.k_head_dim(), 576);
  EXPECT_EQ(c.cached_v_head_dim(), 512);
}

TEST(ModelConfigTest, WrittenTextReadsBackTheSame) {
  for (const std::string& text :
       {std::string(kDeepSeekV3), v3_with("\"q_lora_rank\": 1536", "\"q_lora_rank\": null"),
        v3_with("\"vocab_size\"", "\"mla_form\": \"absorbed\", \"vocab_size\"")}) {
    const ModelConfig c = ModelConfig::from_json("config.json", text);
    const ModelConfig again = ModelConfig::from_json("again", c.to_json(DType::kBF16));
    EXPECT_EQ(again.to_json(DType::kBF16), c.to_json(DType::kBF16));
    EXPECT_EQ(again.q_lora_rank, c.q_lora_rank);
    EXPECT_EQ(again.mla_form, c.mla_form);
    EXPECT_EQ(again.rope_scaling.factor, c.rope_scaling.factor);
    EXPECT_EQ(again.num_parameters(), c.num_parameters());
  }
  EXPECT_THAT(v3().to_json(DType::kF32), ::testing::HasSubstr("\"torch_dtype\": \"float32\""));
}

TEST(ModelConfigTest, AbsentOrNullRopeScalingMeansNone) {
  std::string text = kDeepSeekV3;
  const size_t begin = text.find("\"rope_scaling\""), end = text.find('}', begin);
  text.replace(begin, end + 1 - begin, "\"rope_scaling\": null");
  const ModelConfig c = ModelConfig::from_json("config.json", text);
  EXPECT_EQ(c.rope().type, kernels::RopeScalingType::kNone);
  EXPECT_NEAR(c.softmax_scale(), 1 / std::sqrt(192.0), 1e-7);
}

TEST(ModelConfigTest, ReadsRopeParameters) {
  std::string text = kDeepSeekV3;
  const size_t begin = text.find("\"rope_scaling\""), end = text.find('}', begin);
  text.replace(begin, end + 1 - begin,
               R"("rope_parameters": {"rope_type": "yarn", "rope_theta": 50000.0, "factor": 8.0,
                  "original_max_position_embeddings": 2048, "beta_fast": 16, "beta_slow": 2,
                  "mscale": 1.0, "mscale_all_dim": 0.5})");
  const ModelConfig c =
      ModelConfig::from_json("config.json", text.erase(text.find("\"rope_theta\": 10000,"), 20));
  EXPECT_EQ(c.rope_theta, 50000);
  EXPECT_EQ(c.rope_scaling.type, "yarn");
  EXPECT_EQ(c.rope_scaling.factor, 8);
  EXPECT_EQ(c.rope_scaling.mscale_all_dim, 0.5);
}

TEST(ModelConfigTest, RefusesWhatItDoesNotCompute) {
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal(v3_with("\"deepseek_v3\"", "\"deepseek\"")),
              HasSubstr("model_type is 'deepseek', expected one of deepseek_v3"));
  EXPECT_THAT(refusal(v3_with("sigmoid", "softmax")), HasSubstr("scoring_func is 'softmax'"));
  EXPECT_THAT(refusal(v3_with("noaux_tc", "greedy")), HasSubstr("topk_method is 'greedy'"));
  EXPECT_THAT(refusal(v3_with("silu", "gelu")), HasSubstr("hidden_act is 'gelu'"));
  EXPECT_THAT(refusal(v3_with("\"attention_bias\": false", "\"attention_bias\": true")),
              HasSubstr("attention_bias is true"));
  EXPECT_THAT(refusal(v3_with("\"ep_size\": 1", "\"n_experts\": 1")),
              HasSubstr("n_experts is not a known key"));
  EXPECT_THAT(refusal(v3_with("\"type\": \"yarn\"", "\"type\": \"dynamic\"")),
              HasSubstr("rope_scaling.type is 'dynamic'"));
  EXPECT_THAT(refusal(v3_with("\"beta_fast\"", "\"attn_factor\": 0.878, \"beta_fast\"")),
              HasSubstr("rope_scaling.attn_factor is 0.878, expected none"));
  EXPECT_THAT(refusal("{\"vocab_size\": 3"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("{}"), HasSubstr("vocab_size is missing"));
}

TEST(ModelConfigTest, TakesWhatTransformersDoesForKeysThatAreLeftOut) {
  std::string text = v3_with("\"n_group\": 8,", "");
  for (const char* key : {"\"topk_group\": 4,", "\"routed_scaling_factor\": 2.5,"}) {
    const size_t at = text.find(key);
    ASSERT_NE(at, std::string::npos) << key;
    text.erase(at, std::string_view(key).size());
  }
  EXPECT_EQ(ModelConfig::from_json("config.json", text).to_json(DType::kBF16),
            v3().to_json(DType::kBF16));
}

TEST(ModelConfigTest, ReportsEveryShapeThatDoesNotFitAtOnce) {
  const std::string text = refusal(v3_with("\"n_group\": 8, \"n_routed_experts\": 256",
                                           "\"n_group\": 7, \"n_routed_experts\": 256"));
  EXPECT_THAT(text,
              ::testing::HasSubstr("n_routed_experts is 256, expected a multiple of n_group"));
  ModelConfig c = v3();
  c.topk_group = 9;
  c.qk_rope_head_dim = 63;
  c.num_nextn_predict_layers = 2;
  EXPECT_EQ(c.violations().size(), 3u);
  c = v3();
  c.topk_group = 1;
  c.num_experts_per_tok = 33;
  EXPECT_THAT(c.violations(),
              ::testing::ElementsAre(::testing::HasSubstr("num_experts_per_tok is 33, expected at "
                                                          "most 32")));
  c = v3();
  c.rope_scaling.beta_slow = 33;
  c.rope_theta = 0.5;
  EXPECT_THAT(c.violations(), ::testing::UnorderedElementsAre(
                                  "rope_scaling.beta_fast is 32, expected at least beta_slow = 33",
                                  "rope_theta is 0.5, expected > 1"));
  c = v3();
  c.v_head_dim = 0;
  c.moe_layer_freq = 0;
  EXPECT_EQ(c.violations().size(), 2u);
  EXPECT_TRUE(v3().violations().empty());
}

TEST(ModelConfigTest, SizesThatNoModelHasAreRefused) {
  ModelConfig c = v3();
  c.num_hidden_layers = std::numeric_limits<int64_t>::max();
  c.hidden_size = int64_t{1} << 40;
  EXPECT_THAT(
      c.violations(),
      ::testing::ElementsAre("hidden_size is 1099511627776, expected at most 1048576",
                             "num_hidden_layers is 9223372036854775807, expected at most 1024"));
  c = v3();
  c.n_routed_experts = 1 << 16;
  c.moe_intermediate_size = 1 << 20;
  EXPECT_THAT(c.violations(),
              ::testing::ElementsAre(::testing::HasSubstr("times moe_intermediate_size")));
}

TEST(ModelConfigTest, DumpOfARecipeReadsBack) {
  const ModelConfig c = v3();
  ModelConfig again;
  ConfigSource("dump", ConfigDump::to_yaml(c)).read(again);
  EXPECT_EQ(again.to_json(DType::kF32), c.to_json(DType::kF32));
  ModelConfig none;  // a recipe whose model comes from a directory
  EXPECT_TRUE(ConfigSource("recipe", "{}").read_collecting(none).empty());
}

}  // namespace
}  // namespace moerl
