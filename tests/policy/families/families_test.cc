// Published configurations of every family: read, counted, written back, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/error.h"
#include "policy/families/family.h"
#include "policy/transformer.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

using ::testing::HasSubstr;

struct Published {
  const char* name;
  int64_t num_parameters;  ///< as transformers 5.24 counts them, with the router bias
  double active;           ///< in billions, from the text that introduced the model
  const char* config;
  friend std::ostream& operator<<(std::ostream& out, const Published& p) { return out << p.name; }
};

const Published kPublished[] = {
    {"Moonlight_16B_A3B", 15'960'110'208, 2.9,
     R"({"architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "aux_loss_alpha": 0.001, "bos_token_id": 163584,
  "eos_token_id": 163585, "ep_size": 1, "first_k_dense_replace": 1, "hidden_act": "silu",
  "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 11264,
  "kv_lora_rank": 512, "max_position_embeddings": 8192, "model_type": "deepseek_v3",
  "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64,
  "n_shared_experts": 2, "norm_topk_prob": true, "num_attention_heads": 16,
  "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
  "num_nextn_predict_layers": 0, "pretraining_tp": 1, "q_lora_rank": null,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-05, "rope_theta": 50000.0,
  "routed_scaling_factor": 2.446, "scoring_func": "sigmoid", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 128, "vocab_size": 163840})"},
    {"Kimi_K2", 1'026'408'232'448, 32.9,
     R"({"architectures": ["DeepseekV3ForCausalLM"], "first_k_dense_replace": 1,
  "hidden_size": 7168, "intermediate_size": 18432, "kv_lora_rank": 512,
  "max_position_embeddings": 131072, "model_type": "kimi_k2", "moe_intermediate_size": 2048,
  "n_group": 1, "n_routed_experts": 384, "n_shared_experts": 1, "norm_topk_prob": true,
  "num_attention_heads": 64, "num_experts_per_tok": 8, "num_hidden_layers": 61,
  "num_key_value_heads": 64, "num_nextn_predict_layers": 0, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rope_scaling": {"beta_fast": 1.0,
  "beta_slow": 1.0, "factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0,
  "original_max_position_embeddings": 4096, "type": "yarn"}, "rope_theta": 50000.0,
  "routed_scaling_factor": 2.827, "scoring_func": "sigmoid", "topk_group": 1,
  "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 163840})"},
    {"DeepSeek_V2_Lite", 15'706'484'224, 2.7,
     R"({"architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "aux_loss_alpha": 0.001, "bos_token_id": 100000,
  "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
  "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
  "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6,
  "num_hidden_layers": 27, "num_key_value_heads": 16, "pretraining_tp": 1, "q_lora_rank": null,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
  "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy",
  "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400})"},
    {"DeepSeek_V2", 235'741'434'880, 21.4,
     R"({"first_k_dense_replace": 1, "hidden_size": 5120, "intermediate_size": 12288,
  "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v2",
  "moe_intermediate_size": 1536, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 160,
  "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 128,
  "num_experts_per_tok": 6, "num_hidden_layers": 60, "num_key_value_heads": 128,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
  "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 16.0, "scoring_func": "softmax",
  "topk_group": 3, "topk_method": "group_limited_greedy", "v_head_dim": 128,
  "vocab_size": 102400})"},
    {"R1_Distill_Qwen_1_5B", 1'777'088'000, 1.78,
     R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02,
  "intermediate_size": 8960, "max_position_embeddings": 131072, "max_window_layers": 21,
  "model_type": "qwen2", "num_attention_heads": 12, "num_hidden_layers": 28,
  "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
  "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936})"},
    {"R1_Distill_Llama_8B", 8'030'261'248, 8.03,
     R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0,
  "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
  "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256})"},
    {"Qwen3_0_6B", 596'049'920, 0.6,
     R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
  "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
  "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
  "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true,
  "use_sliding_window": false, "vocab_size": 151936})"},
    {"Qwen3_30B_A3B", 30'532'122'624, 3.35,
     R"({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false,
  "attention_dropout": 0.0, "bos_token_id": 151643, "decoder_sparse_step": 1,
  "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960,
  "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
  "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
  "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
  "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-06,
  "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
  "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})"}};

ModelConfig published(const std::string& name) {
  for (const Published& p : kPublished)
    if (p.name == name) return ModelConfig::from_json("config.json", p.config);
  throw std::out_of_range(name);
}

class PublishedConfigTest : public ::testing::TestWithParam<Published> {};
INSTANTIATE_TEST_SUITE_P(Models, PublishedConfigTest, ::testing::ValuesIn(kPublished),
                         [](const auto& info) { return info.param.name; });

TEST_P(PublishedConfigTest, CountsTheParametersThatTransformersCounts) {
  const ModelConfig c = ModelConfig::from_json("config.json", GetParam().config);
  EXPECT_EQ(c.num_parameters(), GetParam().num_parameters);
  EXPECT_NEAR(static_cast<double>(c.num_active_parameters()) / 1e9, GetParam().active,
              0.025 * GetParam().active);
}

TEST_P(PublishedConfigTest, WrittenTextReadsBackTheSame) {
  const ModelConfig c = ModelConfig::from_json("config.json", GetParam().config);
  const std::string text = c.to_json(DType::kBF16);
  const ModelConfig again = ModelConfig::from_json("again", text);
  EXPECT_EQ(again.to_json(DType::kBF16), text);
  EXPECT_EQ(ConfigDump::to_yaml(again), ConfigDump::to_yaml(c));
  EXPECT_EQ(again.num_parameters(), GetParam().num_parameters);
}

TEST(FamilyConfigTest, ReadsWhatDistinguishesTheFamilies) {
  ModelConfig c = published("DeepSeek_V2");
  EXPECT_EQ(c.gate().scoring, kernels::GateScoring::kSoftmax);
  EXPECT_EQ(c.gate().group_worth, kernels::GroupWorth::kMax);
  EXPECT_EQ(c.gate().topk_group, 3);
  EXPECT_FALSE(c.has_router_bias());
  EXPECT_NEAR(c.softmax_scale() * std::sqrt(192.0), 1.58963, 1e-5);
  c = published("DeepSeek_V2_Lite");
  EXPECT_EQ(c.gate().n_group, 1);
  EXPECT_EQ(c.q_lora_rank, std::nullopt);
  c = published("R1_Distill_Llama_8B");
  EXPECT_EQ(c.eos_token_id, 128001);
  EXPECT_THAT(c.further_eos_token_ids, ::testing::ElementsAre(128008, 128009));
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.rope().type, kernels::RopeScalingType::kLlama3);
  EXPECT_EQ(c.rope_pairing(), kernels::RopePairing::kHalves);
  EXPECT_EQ(c.num_moe_layers(), 0);
  EXPECT_FALSE(c.qkv_bias);
  c = published("R1_Distill_Qwen_1_5B");
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_FALSE(c.o_bias);
  EXPECT_EQ(c.num_kv_heads(), 2);
  EXPECT_EQ(c.k_head_dim(), 128);
  EXPECT_EQ(c.cached_v_head_dim(), 128);
  EXPECT_EQ(c.attention_form(), "grouped");
  c = published("Qwen3_0_6B");
  EXPECT_TRUE(c.qk_norm);
  EXPECT_EQ(c.num_attention_heads * c.head_dim, 2 * c.hidden_size);
  c = published("Qwen3_30B_A3B");
  EXPECT_EQ(c.num_moe_layers(), 48);
  EXPECT_TRUE(c.norm_topk_prob);
  EXPECT_EQ(c.gate().n_routed_experts, 128);
  c = published("Moonlight_16B_A3B");
  EXPECT_TRUE(c.has_router_bias());
  EXPECT_EQ(c.rms_norm_eps, 1e-5);
  c = published("Kimi_K2");
  EXPECT_EQ(c.rope_scaling.beta_fast, 1);
  EXPECT_THAT(c.to_json(DType::kBF16), HasSubstr("\"model_type\": \"kimi_k2\""));
}

TEST(FamilyConfigTest, ExpertLayersOfQwen3MoeAreEveryNthButTheDenseOnes) {
  ModelConfig c = published("Qwen3_30B_A3B");
  c.moe_layer_freq = 3;
  c.mlp_only_layers = {5};
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < 12; ++layer)
    if (c.is_moe_layer(layer)) layers.push_back(layer);
  EXPECT_THAT(layers, ::testing::ElementsAre(2, 8, 11));
}

TEST(FamilyConfigTest, ReadsTheNewerSpellings) {
  const ModelConfig c = ModelConfig::from_json("config.json", R"({"model_type": "qwen3_moe",
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_local_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 8, "intermediate_size": 16, "dtype": "bfloat16",
    "sliding_window": null, "eos_token_id": null, "pad_token_id": null,
    "rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0,
                        "partial_rotary_factor": 1.0}})");
  EXPECT_EQ(c.n_routed_experts, 6);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.rope_theta, 5000);
  EXPECT_EQ(c.rope().type, kernels::RopeScalingType::kLinear);
  EXPECT_FALSE(c.norm_topk_prob);
  EXPECT_EQ(c.eos_token_id, std::nullopt);
}

/// The refusal of a small configuration of a family with more JSON members.
std::string refusal(const std::string& family, const std::string& members) {
  const std::string text = R"({"model_type": ")" + family +
                           R"(", "vocab_size": 99, "hidden_size": 32,
          "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, )" +
                           members + "}";
  try {
    ModelConfig::from_json("config.json", text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(FamilyConfigTest, RefusesWhatItDoesNotCompute) {
  EXPECT_EQ(refusal("llama", R"("num_key_value_heads": 2)"), "");
  EXPECT_THAT(refusal("mistral", R"("sliding_window": 4)"),
              HasSubstr("model_type is 'mistral', expected one of deepseek_v3, kimi_k2"));
  const std::pair<std::string, std::string> refused[] = {
      {R"("num_key_value_heads": 3)", "num_key_value_heads is 3, expected a divisor"},
      {R"("head_dim": 7)", "head_dim is 7, expected an even number"},
      {R"("use_sliding_window": true)", "use_sliding_window is true, expected false"},
      {R"("layer_types": ["full_attention", "sliding_attention"])",
       "layer_types has 'sliding_attention', expected full_attention alone"},
      {R"("rope_scaling": {"rope_type": "dynamic", "factor": 2})",
       "rope_scaling.rope_type is 'dynamic', expected one of default, linear, yarn, llama3"},
      {R"("rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": 0.7})",
       "rope_scaling.mscale is 0.7 with mscale_all_dim 0, expected both > 0, or neither given"},
      {R"("rope_scaling": {"rope_type": "llama3", "factor": 2, "high_freq_factor": 1})",
       "high_freq_factor is 1, expected more than low_freq_factor = 1"},
      {R"("rope_scaling": {"rope_type": "linear", "factor": 2, "partial_rotary_factor": 0.5})",
       "rope_scaling.partial_rotary_factor is not a known key"},
      {R"("mla_form": "absorbed")", "mla_form is not a known key"},
      {R"("n_routed_experts": 4)", "n_routed_experts is not a known key"},
      {R"("hidden_act": "gelu")", "hidden_act is 'gelu', expected one of silu"}};
  for (const auto& [members, part] : refused)
    EXPECT_THAT(refusal("qwen2", members), HasSubstr(part));
  EXPECT_THAT(refusal("llama", R"("mlp_bias": true)"),
              HasSubstr("mlp_bias is true, expected false"));
  ModelConfig c = published("Qwen3_0_6B");
  c.mla_form = "absorbed";
  c.num_nextn_predict_layers = 1;
  EXPECT_EQ(c.violations().size(), 2u);
  EXPECT_THROW(ModelConfig::of_family("gpt2"), ConfigError);
}

TEST(FamilyModelTest, ParametersHaveTheNamesAndShapesOfTheCheckpoint) {
  const auto shapes = [](const ModelConfig& config) {
    std::map<std::string, Shape> out;
    int64_t total = 0;
    const Transformer model(config, DType::kF32);
    for (const Parameter* p : model.parameters()) {
      out.emplace(p->name, p->value.shape());
      total += p->value.numel();
    }
    EXPECT_EQ(total, config.num_parameters()) << config.model_type;
    return out;
  };
  const std::string layer = "model.layers.1.";
  auto names = shapes(tiny_qwen2());
  EXPECT_EQ(names.at(layer + "self_attn.q_proj.weight"), (Shape{84, 40}));
  EXPECT_EQ(names.at(layer + "self_attn.q_proj.bias"), (Shape{84}));
  EXPECT_EQ(names.at(layer + "self_attn.k_proj.weight"), (Shape{28, 40}));
  EXPECT_EQ(names.at(layer + "self_attn.v_proj.bias"), (Shape{28}));
  EXPECT_EQ(names.at(layer + "self_attn.o_proj.weight"), (Shape{40, 84}));
  EXPECT_FALSE(names.contains(layer + "self_attn.o_proj.bias"));
  EXPECT_FALSE(names.contains("lm_head.weight"));
  EXPECT_EQ(names.at(layer + "mlp.down_proj.weight"), (Shape{40, 28}));
  names = shapes(tiny_llama());
  EXPECT_EQ(names.at(layer + "self_attn.o_proj.bias"), (Shape{40}));
  names = shapes(tiny_qwen3());
  EXPECT_EQ(names.at(layer + "self_attn.q_norm.weight"), (Shape{14}));
  EXPECT_FALSE(names.contains(layer + "self_attn.k_proj.bias"));
  names = shapes(tiny_qwen3_moe());
  EXPECT_EQ(names.at("model.layers.2.mlp.experts.7.gate_proj.weight"), (Shape{12, 40}));
  EXPECT_EQ(names.at("model.layers.2.mlp.gate.weight"), (Shape{8, 40}));
  EXPECT_FALSE(names.contains("model.layers.2.mlp.gate.e_score_correction_bias"));
  EXPECT_FALSE(names.contains("model.layers.2.mlp.shared_experts.up_proj.weight"));
  EXPECT_EQ(names.at("model.layers.1.mlp.gate_proj.weight"), (Shape{28, 40}));  // mlp_only_layers
  names = shapes(tiny_deepseek_v2());
  EXPECT_EQ(names.at(layer + "mlp.shared_experts.up_proj.weight"), (Shape{12, 40}));
  EXPECT_FALSE(names.contains(layer + "mlp.gate.e_score_correction_bias"));
}

TEST(FamilyModelTest, BiasesStartAtZero) {
  Transformer model(tiny_llama(), DType::kF32);
  for (Parameter* p : model.parameters())
    std::fill_n(p->value.data<float>(), p->value.numel(), 5.f);
  model.init_weights(1);
  for (const Parameter* p : model.parameters())
    if (p->value.shape().rank() == 1) {
      EXPECT_EQ(p->value.data<float>()[0], p->name.ends_with(".bias") ? 0 : 1) << p->name;
    }
}

TEST(FamilyModelTest, WithoutRouterBiasThereIsNothingToBalance) {
  Transformer model(tiny_qwen3_moe(), DType::kF32);
  RoutingCounts counts;
  counts.per_layer = {{8, 0, 0, 0, 0, 0, 0, 0}, {8, 0, 0, 0, 0, 0, 0, 0}};
  EXPECT_NO_THROW(model.update_router_bias(counts, 0.001));
  Transformer dense(tiny_llama(), DType::kF32);
  EXPECT_NO_THROW(dense.update_router_bias({}, 0.001));
}

}  // namespace
}  // namespace moerl::testing
