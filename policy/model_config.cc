#include "policy/model_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/error.h"
#include "common/json.h"
#include "policy/model_limits.h"

namespace moerl {
namespace {

/// Keys of published configurations that change nothing here.
constexpr const char* kIgnoredKeys[] = {
    "architectures",
    "auto_map",
    "attention_dropout",
    "aux_loss_alpha",
    "seq_aux",
    "ep_size",
    "pretraining_tp",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "quantization_config",
    "pad_token_id",
    "head_dim",
    "qk_head_dim",
    "_name_or_path",
    "router_jitter_noise",
    "mlp_bias",
    "output_router_logits",
    "router_aux_loss_coef",
};

/// One matrix or vector group: how many numbers it holds in all, and how many one token meets.
struct Count {
  int64_t all = 0, active = 0;
  void add(int64_t n) { all += n, active += n; }
};

int64_t mla_parameters(const ModelConfig& c) {
  const int64_t d = c.hidden_size, heads = c.num_attention_heads;
  const int64_t q_out = heads * c.qk_head_dim();
  const int64_t q = c.q_lora_rank ? *c.q_lora_rank * (d + 1 + q_out) : q_out * d;
  return q + (c.kv_lora_rank + c.qk_rope_head_dim) * d + c.kv_lora_rank +
         heads * (c.qk_nope_head_dim + c.v_head_dim) * c.kv_lora_rank + d * heads * c.v_head_dim;
}

/// One decoder layer with its two norms.
Count layer_parameters(const ModelConfig& c, bool moe) {
  Count count;
  count.add(mla_parameters(c) + 2 * c.hidden_size);
  if (!moe) {
    count.add(3 * c.hidden_size * c.intermediate_size);
    return count;
  }
  const int64_t expert = 3 * c.hidden_size * c.moe_intermediate_size;
  count.add(c.n_routed_experts * (c.hidden_size + 1) + c.n_shared_experts * expert);
  count.all += c.n_routed_experts * expert;
  count.active += c.num_experts_per_tok * expert;
  return count;
}

/// Model without the MTP module.
Count main_parameters(const ModelConfig& c) {
  Count count;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const Count one = layer_parameters(c, c.is_moe_layer(layer));
    count.all += one.all;
    count.active += one.active;
  }
  count.add(c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2) + c.hidden_size);
  return count;
}

void check_experts(const ModelConfig& c, std::vector<std::string>& out) {
  auto expect = [&](bool ok, const std::string& message) {
    if (!ok) out.push_back(message);
  };
  expect(c.n_routed_experts >= 1, concat("n_routed_experts is ", c.n_routed_experts,
                                         ", expected >= 1: the model has expert layers"));
  expect(c.moe_intermediate_size >= 1,
         concat("moe_intermediate_size is ", c.moe_intermediate_size, ", expected >= 1"));
  expect(c.num_experts_per_tok >= 1,
         concat("num_experts_per_tok is ", c.num_experts_per_tok, ", expected >= 1"));
  expect(c.n_group >= 1 && c.n_routed_experts % c.n_group == 0,
         concat("n_routed_experts is ", c.n_routed_experts,
                ", expected a multiple of n_group = ", c.n_group));
  expect(c.topk_group >= 1 && c.topk_group <= c.n_group,
         concat("topk_group is ", c.topk_group, ", expected 1 to n_group = ", c.n_group));
  if (c.n_group >= 1) {
    const int64_t kept = c.topk_group * (c.n_routed_experts / c.n_group);
    expect(c.num_experts_per_tok <= kept,
           concat("num_experts_per_tok is ", c.num_experts_per_tok, ", expected at most ", kept,
                  " = the experts of topk_group = ", c.topk_group, " groups"));
  }
}

/// rope_parameters (the newer spelling) as rope_theta and rope_scaling.
void translate_rope_parameters(nlohmann::ordered_json& config) {
  const auto found = config.find("rope_parameters");
  if (found == config.end() || !found->is_object()) return;
  nlohmann::ordered_json scaling = *found;
  config.erase("rope_parameters");
  if (scaling.contains("rope_theta")) {
    config["rope_theta"] = scaling["rope_theta"];
    scaling.erase("rope_theta");
  }
  config["rope_scaling"] = scaling;
}

}  // namespace

kernels::RopeConfig ModelConfig::rope() const {
  const RopeScaling& s = rope_scaling;
  return {
      .dim = qk_rope_head_dim,
      .theta = rope_theta,
      .type = s.type == "yarn" ? kernels::RopeScalingType::kYarn : kernels::RopeScalingType::kNone,
      .factor = s.factor,
      .beta_fast = s.beta_fast,
      .beta_slow = s.beta_slow,
      .mscale = s.mscale,
      .mscale_all_dim = s.mscale_all_dim,
      .attention_factor = 0,
      .low_freq_factor = 1,
      .high_freq_factor = 4,
      .original_max_position_embeddings = s.original_max_position_embeddings};
}

kernels::GateConfig ModelConfig::gate() const {
  return {.n_routed_experts = n_routed_experts,
          .num_experts_per_tok = num_experts_per_tok,
          .n_group = n_group,
          .topk_group = topk_group,
          .norm_topk_prob = norm_topk_prob,
          .routed_scaling_factor = static_cast<float>(routed_scaling_factor)};
}

float ModelConfig::softmax_scale() const {
  return static_cast<float>(kernels::rope_softmax_scale(rope()) /
                            std::sqrt(static_cast<double>(qk_head_dim())));
}

int64_t ModelConfig::num_moe_layers() const {
  int64_t n = 0;
  for (int64_t layer = 0; layer < num_hidden_layers; ++layer) n += is_moe_layer(layer);
  return n;
}

int64_t ModelConfig::num_parameters() const {
  int64_t n = main_parameters(*this).all;
  if (num_nextn_predict_layers > 0) {
    n += layer_parameters(*this, is_moe_layer(num_hidden_layers)).all;
    n +=
        3 * hidden_size + 2 * hidden_size * hidden_size;  // enorm, hnorm, shared_head.norm, eh_proj
  }
  return n;
}

int64_t ModelConfig::num_active_parameters() const { return main_parameters(*this).active; }

std::vector<std::string> ModelConfig::violations() const {
  std::vector<std::string> out = oversizes(*this);
  if (!out.empty()) return out;
  const std::pair<const char*, int64_t> sizes[] = {
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"num_hidden_layers", num_hidden_layers},
      {"num_attention_heads", num_attention_heads},
      {"kv_lora_rank", kv_lora_rank},
      {"qk_nope_head_dim", qk_nope_head_dim},
      {"qk_rope_head_dim", qk_rope_head_dim},
      {"v_head_dim", v_head_dim},
      {"max_position_embeddings", max_position_embeddings}};
  for (const auto& [name, value] : sizes)
    if (value < 1) out.push_back(concat(name, " is ", value, ", expected >= 1"));
  if (qk_rope_head_dim % 2 != 0)
    out.push_back(concat("qk_rope_head_dim is ", qk_rope_head_dim, ", expected an even number"));
  if (moe_layer_freq < 1) {
    out.push_back(concat("moe_layer_freq is ", moe_layer_freq, ", expected >= 1"));
    return out;
  }
  const int64_t num_layers = num_hidden_layers + num_nextn_predict_layers;
  bool dense = false, moe = false;
  for (int64_t layer = 0; layer < num_layers; ++layer) (is_moe_layer(layer) ? moe : dense) = true;
  if (dense && intermediate_size < 1)
    out.push_back(concat("intermediate_size is ", intermediate_size,
                         ", expected >= 1: the model has dense layers"));
  if (moe) check_experts(*this, out);
  if (num_nextn_predict_layers < 0 || num_nextn_predict_layers > 1)
    out.push_back(
        concat("num_nextn_predict_layers is ", num_nextn_predict_layers, ", expected 0 or 1"));
  if (rope_scaling.type == "yarn" && rope_scaling.factor <= 1)
    out.push_back(concat("rope_scaling.factor is ", rope_scaling.factor, ", expected > 1"));
  if (rope_scaling.beta_fast < rope_scaling.beta_slow)
    out.push_back(concat("rope_scaling.beta_fast is ", rope_scaling.beta_fast,
                         ", expected at least beta_slow = ", rope_scaling.beta_slow));
  if (!(rope_theta > 1)) out.push_back(concat("rope_theta is ", rope_theta, ", expected > 1"));
  return out;
}

void visit_fields(FieldVisitor& v, RopeScaling& c) {
  const std::vector<std::string> kTypes = {"", "default", "yarn"};
  v.choice("type", c.type, kTypes);
  std::string rope_type = c.type;  // the newer key for the same
  v.choice("rope_type", rope_type, kTypes);
  c.type = rope_type == "default" ? "" : rope_type;
  v.field("factor", c.factor, kPositive);
  v.field("beta_fast", c.beta_fast, kPositive);
  v.field("beta_slow", c.beta_slow, kPositive);
  v.field("mscale", c.mscale, kNotNegative);
  v.field("mscale_all_dim", c.mscale_all_dim, kNotNegative);
  v.field("original_max_position_embeddings", c.original_max_position_embeddings, kAtLeastOne);
}

void visit_fields(FieldVisitor& v, ModelConfig& c) {
  std::string model_type = "deepseek_v3", hidden_act = "silu", scoring_func = "sigmoid",
              topk_method = "noaux_tc";
  v.choice("model_type", model_type, {"deepseek_v3"});
  v.field("vocab_size", c.vocab_size, kAtLeastOne);
  v.field("hidden_size", c.hidden_size, kAtLeastOne);
  v.field("intermediate_size", c.intermediate_size, kNotNegative);
  v.field("moe_intermediate_size", c.moe_intermediate_size, kNotNegative);
  v.field("num_hidden_layers", c.num_hidden_layers, kAtLeastOne);
  v.field("num_attention_heads", c.num_attention_heads, kAtLeastOne);
  int64_t num_key_value_heads = c.num_attention_heads;
  v.field("num_key_value_heads", num_key_value_heads, kAtLeastOne);
  v.require(num_key_value_heads == c.num_attention_heads,
            concat("num_key_value_heads is ", num_key_value_heads,
                   ", expected num_attention_heads = ", c.num_attention_heads));
  v.field("q_lora_rank", c.q_lora_rank, kNotNegative);
  if (c.q_lora_rank == 0) c.q_lora_rank.reset();
  v.field("kv_lora_rank", c.kv_lora_rank, kAtLeastOne);
  v.field("qk_nope_head_dim", c.qk_nope_head_dim, kAtLeastOne);
  v.field("qk_rope_head_dim", c.qk_rope_head_dim, kAtLeastOne);
  v.field("v_head_dim", c.v_head_dim, kAtLeastOne);
  v.field("n_routed_experts", c.n_routed_experts, kNotNegative);
  v.field("n_shared_experts", c.n_shared_experts, kNotNegative);
  v.field("num_experts_per_tok", c.num_experts_per_tok, kNotNegative);
  v.field("n_group", c.n_group, kAtLeastOne);
  v.field("topk_group", c.topk_group, kAtLeastOne);
  v.field("first_k_dense_replace", c.first_k_dense_replace, kNotNegative);
  v.field("moe_layer_freq", c.moe_layer_freq, kAtLeastOne);
  v.field("norm_topk_prob", c.norm_topk_prob);
  v.field("routed_scaling_factor", c.routed_scaling_factor, kPositive);
  v.choice("scoring_func", scoring_func, {"sigmoid"});
  v.choice("topk_method", topk_method, {"noaux_tc"});
  v.choice("hidden_act", hidden_act, {"silu"});
  bool attention_bias = false, rope_interleave = true;
  v.field("attention_bias", attention_bias);
  v.require(!attention_bias, "attention_bias is true, expected false: projections have no bias");
  v.field("rope_interleave", rope_interleave);
  v.require(rope_interleave, "rope_interleave is false, expected true: rotary pairs are adjacent");
  v.field("num_nextn_predict_layers", c.num_nextn_predict_layers, Range{0, 1});
  v.field("max_position_embeddings", c.max_position_embeddings, kAtLeastOne);
  v.field("rms_norm_eps", c.rms_norm_eps, kPositive);
  v.field("rope_theta", c.rope_theta, kPositive);
  v.group("rope_scaling", c.rope_scaling);
  v.field("tie_word_embeddings", c.tie_word_embeddings);
  v.field("initializer_range", c.initializer_range, kNotNegative);
  v.field("bos_token_id", c.bos_token_id, kNotNegative);
  v.field("eos_token_id", c.eos_token_id, kNotNegative);
  v.choice("mla_form", c.mla_form, {"expanded", "absorbed"});
  for (const char* key : kIgnoredKeys) v.ignored(key);
  if (c.vocab_size != 0)
    for (const std::string& violation : c.violations()) v.require(false, violation);
}

ModelConfig ModelConfig::from_json(const std::string& name, const std::string& text) {
  try {
    check_json(name, text);
  } catch (const IoError& error) {
    throw ConfigError(error.what());
  }
  nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(text);
  if (!parsed.is_object()) throw ConfigError(concat(name, ": expected a JSON object"));
  translate_rope_parameters(parsed);
  ModelConfig config;
  ConfigSource(name, parsed.dump()).read(config);
  if (config.vocab_size == 0) throw ConfigError(concat(name, ":\n  vocab_size is missing"));
  return config;
}

std::string ModelConfig::to_json(DType dtype) const {
  nlohmann::ordered_json j;
  j["architectures"] = {"DeepseekV3ForCausalLM"};
  j["model_type"] = "deepseek_v3";
  j["torch_dtype"] = dtype == DType::kBF16 ? "bfloat16" : "float32";
  j["vocab_size"] = vocab_size;
  j["hidden_size"] = hidden_size;
  j["intermediate_size"] = intermediate_size;
  j["moe_intermediate_size"] = moe_intermediate_size;
  j["num_hidden_layers"] = num_hidden_layers;
  j["num_attention_heads"] = num_attention_heads;
  j["num_key_value_heads"] = num_attention_heads;
  j["q_lora_rank"] = nullptr;
  if (q_lora_rank) j["q_lora_rank"] = *q_lora_rank;
  j["kv_lora_rank"] = kv_lora_rank;
  j["qk_nope_head_dim"] = qk_nope_head_dim;
  j["qk_rope_head_dim"] = qk_rope_head_dim;
  j["v_head_dim"] = v_head_dim;
  j["n_routed_experts"] = n_routed_experts;
  j["n_shared_experts"] = n_shared_experts;
  j["num_experts_per_tok"] = num_experts_per_tok;
  j["n_group"] = n_group;
  j["topk_group"] = topk_group;
  j["topk_method"] = "noaux_tc";
  j["scoring_func"] = "sigmoid";
  j["first_k_dense_replace"] = first_k_dense_replace;
  j["moe_layer_freq"] = moe_layer_freq;
  j["norm_topk_prob"] = norm_topk_prob;
  j["routed_scaling_factor"] = routed_scaling_factor;
  j["num_nextn_predict_layers"] = num_nextn_predict_layers;
  j["max_position_embeddings"] = max_position_embeddings;
  j["hidden_act"] = "silu";
  j["attention_bias"] = false;
  j["rms_norm_eps"] = rms_norm_eps;
  j["rope_theta"] = rope_theta;
  j["rope_interleave"] = true;
  j["rope_scaling"] = nullptr;
  if (rope_scaling.type == "yarn") {
    const RopeScaling& s = rope_scaling;
    j["rope_scaling"] = {{"type", "yarn"},
                         {"factor", s.factor},
                         {"beta_fast", s.beta_fast},
                         {"beta_slow", s.beta_slow},
                         {"mscale", s.mscale},
                         {"mscale_all_dim", s.mscale_all_dim},
                         {"original_max_position_embeddings", s.original_max_position_embeddings}};
  }
  j["tie_word_embeddings"] = tie_word_embeddings;
  j["initializer_range"] = initializer_range;
  if (bos_token_id) j["bos_token_id"] = *bos_token_id;
  if (eos_token_id) j["eos_token_id"] = *eos_token_id;
  j["use_cache"] = true;
  j["mla_form"] = mla_form;
  return j.dump(2) + "\n";
}

}  // namespace moerl
