#include "policy/model_config.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "policy/families/family.h"
#include "policy/families/fields.h"
#include "policy/model_limits.h"

namespace moerl {
namespace {

using Violations = std::vector<std::string>;

void expect(Violations& out, bool ok, const std::string& message) {
  if (!ok) out.push_back(message);
}

void expect_positive(Violations& out, const char* name, int64_t value) {
  expect(out, value >= 1, concat(name, " is ", value, ", expected >= 1"));
}

void check_latent_attention(const ModelConfig& c, Violations& out) {
  expect_positive(out, "kv_lora_rank", c.kv_lora_rank);
  expect_positive(out, "qk_nope_head_dim", c.qk_nope_head_dim);
  expect_positive(out, "qk_rope_head_dim", c.qk_rope_head_dim);
  expect_positive(out, "v_head_dim", c.v_head_dim);
  expect(out, c.qk_rope_head_dim % 2 == 0,
         concat("qk_rope_head_dim is ", c.qk_rope_head_dim, ", expected an even number"));
}

void check_grouped_attention(const ModelConfig& c, Violations& out) {
  expect_positive(out, "head_dim", c.head_dim);
  expect(out, c.head_dim % 2 == 0, concat("head_dim is ", c.head_dim, ", expected an even number"));
  expect(out, c.num_key_value_heads >= 1 && c.num_attention_heads % c.num_key_value_heads == 0,
         concat("num_key_value_heads is ", c.num_key_value_heads,
                ", expected a divisor of num_attention_heads = ", c.num_attention_heads));
  expect(out, c.mla_form == "expanded",
         concat("mla_form is ", c.mla_form, ", expected expanded: ", c.model_type,
                " has no latent attention"));
  expect(out, c.num_nextn_predict_layers == 0,
         concat("num_nextn_predict_layers is ", c.num_nextn_predict_layers,
                ", expected 0: ", c.model_type, " has no MTP module"));
}

void check_rope_scaling(const RopeScaling& s, Violations& out) {
  if (s.type.empty()) return;
  expect(out, s.factor > 1 || (s.type == "linear" && s.factor == 1),
         concat("rope_scaling.factor is ", s.factor, ", expected > 1"));
  if (s.type == "llama3")
    expect(out, s.high_freq_factor > s.low_freq_factor,
           concat("rope_scaling.high_freq_factor is ", s.high_freq_factor,
                  ", expected more than low_freq_factor = ", s.low_freq_factor));
  if (s.type != "yarn") return;
  expect(out, s.beta_fast >= s.beta_slow,
         concat("rope_scaling.beta_fast is ", s.beta_fast,
                ", expected at least beta_slow = ", s.beta_slow));
  // One without the other: DeepSeek's code and transformers then differ in the amplitude.
  const double mscale = s.mscale.value_or(1), all_dim = s.mscale_all_dim.value_or(0);
  expect(out, (s.mscale && mscale > 0 && all_dim > 0) || (mscale == 1 && all_dim == 0),
         concat("rope_scaling.mscale is ", mscale, " with mscale_all_dim ", all_dim,
                ", expected both > 0, or neither given"));
}

void check_experts(const ModelConfig& c, Violations& out) {
  expect_positive(out, "moe_intermediate_size", c.moe_intermediate_size);
  expect_positive(out, "num_experts_per_tok", c.num_experts_per_tok);
  int64_t candidates = c.n_routed_experts;
  std::string among = "n_routed_experts";
  if (c.topk_method != "greedy") {
    expect(out, c.n_group >= 1 && c.n_routed_experts % c.n_group == 0,
           concat("n_routed_experts is ", c.n_routed_experts,
                  ", expected a multiple of n_group = ", c.n_group));
    expect(out, c.topk_group >= 1 && c.topk_group <= c.n_group,
           concat("topk_group is ", c.topk_group, ", expected 1 to n_group = ", c.n_group));
    if (c.n_group < 1 || c.topk_group < 1 || c.topk_group > c.n_group) return;
    candidates = c.topk_group * (c.n_routed_experts / c.n_group);
    among = concat("the experts of topk_group = ", c.topk_group, " groups");
  }
  expect(out, c.num_experts_per_tok <= candidates,
         concat("num_experts_per_tok is ", c.num_experts_per_tok, ", expected at most ", candidates,
                " = ", among));
}

kernels::RopeScalingType scaling_type(const std::string& type) {
  if (type == "linear") return kernels::RopeScalingType::kLinear;
  if (type == "yarn") return kernels::RopeScalingType::kYarn;
  if (type == "llama3") return kernels::RopeScalingType::kLlama3;
  return kernels::RopeScalingType::kNone;
}

}  // namespace

bool ModelConfig::is_moe_layer(int64_t layer) const {
  return n_routed_experts > 0 && layer >= first_k_dense_replace &&
         (layer + moe_layer_shift) % moe_layer_freq == 0 &&
         std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) == mlp_only_layers.end();
}

int64_t ModelConfig::num_kv_heads() const {
  if (attention == AttentionKind::kGrouped) return num_key_value_heads;
  return absorbed() ? 1 : num_attention_heads;
}

int64_t ModelConfig::cached_v_head_dim() const {
  if (attention == AttentionKind::kGrouped) return head_dim;
  return absorbed() ? kv_lora_rank : v_head_dim;
}

kernels::RopeConfig ModelConfig::rope() const {
  const RopeScaling& s = rope_scaling;
  return {.dim = attention == AttentionKind::kGrouped ? head_dim : qk_rope_head_dim,
          .theta = rope_theta,
          .type = scaling_type(s.type),
          .factor = s.factor,
          .beta_fast = s.beta_fast,
          .beta_slow = s.beta_slow,
          .mscale = s.mscale.value_or(1),
          .mscale_all_dim = s.mscale_all_dim.value_or(0),
          .attention_factor = s.attention_factor.value_or(0),
          .low_freq_factor = s.low_freq_factor,
          .high_freq_factor = s.high_freq_factor,
          .original_max_position_embeddings =
              s.original_max_position_embeddings.value_or(max_position_embeddings)};
}

kernels::GateConfig ModelConfig::gate() const {
  const bool grouped = topk_method != "greedy";
  return {.n_routed_experts = n_routed_experts,
          .num_experts_per_tok = num_experts_per_tok,
          .n_group = grouped ? n_group : 1,
          .topk_group = grouped ? topk_group : 1,
          .norm_topk_prob = norm_topk_prob,
          .routed_scaling_factor = static_cast<float>(routed_scaling_factor),
          .scoring = scoring_func == "softmax" ? kernels::GateScoring::kSoftmax
                                               : kernels::GateScoring::kSigmoid,
          .group_worth = topk_method == "group_limited_greedy" ? kernels::GroupWorth::kMax
                                                               : kernels::GroupWorth::kTopTwoSum};
}

float ModelConfig::softmax_scale() const {
  const double correction =
      attention == AttentionKind::kLatent ? kernels::rope_softmax_scale(rope()) : 1;
  return static_cast<float>(correction / std::sqrt(static_cast<double>(qk_head_dim())));
}

int64_t ModelConfig::num_moe_layers() const {
  int64_t n = 0;
  for (int64_t layer = 0; layer < num_hidden_layers; ++layer) n += is_moe_layer(layer);
  return n;
}

std::vector<std::string> ModelConfig::violations() const {
  Violations out = oversizes(*this);
  if (!out.empty()) return out;
  expect_positive(out, "vocab_size", vocab_size);
  expect_positive(out, "hidden_size", hidden_size);
  expect_positive(out, "num_hidden_layers", num_hidden_layers);
  expect_positive(out, "num_attention_heads", num_attention_heads);
  expect_positive(out, "max_position_embeddings", max_position_embeddings);
  expect(out, rope_theta > 1, concat("rope_theta is ", rope_theta, ", expected > 1"));
  if (attention == AttentionKind::kGrouped)
    check_grouped_attention(*this, out);
  else
    check_latent_attention(*this, out);
  check_rope_scaling(rope_scaling, out);
  expect(out, num_nextn_predict_layers == 0 || num_nextn_predict_layers == 1,
         concat("num_nextn_predict_layers is ", num_nextn_predict_layers, ", expected 0 or 1"));
  if (moe_layer_freq < 1) {
    out.push_back(concat("moe_layer_freq is ", moe_layer_freq, ", expected >= 1"));
    return out;
  }
  bool dense = false, moe = false;
  for (int64_t layer = 0; layer < num_hidden_layers + num_nextn_predict_layers; ++layer)
    (is_moe_layer(layer) ? moe : dense) = true;
  expect(out, !dense || intermediate_size >= 1,
         concat("intermediate_size is ", intermediate_size,
                ", expected >= 1: the model has dense layers"));
  if (moe) check_experts(*this, out);
  return out;
}

void visit_fields(FieldVisitor& v, RopeScaling& c) {
  const std::vector<std::string> kTypes = {"", "default", "linear", "yarn", "llama3"};
  v.choice("type", c.type, kTypes);
  std::string rope_type = c.type;  // the newer key for the same
  v.choice("rope_type", rope_type, kTypes);
  c.type = rope_type == "default" ? "" : rope_type;
  if (c.type.empty()) return;
  v.field("factor", c.factor, kPositive);
  if (c.type == "linear") return;
  v.field("original_max_position_embeddings", c.original_max_position_embeddings, kAtLeastOne);
  if (c.type == "llama3") {
    v.field("low_freq_factor", c.low_freq_factor, kPositive);
    v.field("high_freq_factor", c.high_freq_factor, kPositive);
    return;
  }
  v.field("beta_fast", c.beta_fast, kPositive);
  v.field("beta_slow", c.beta_slow, kPositive);
  v.field("mscale", c.mscale, kNotNegative);
  v.field("mscale_all_dim", c.mscale_all_dim, kNotNegative);
  v.field("attention_factor", c.attention_factor, kPositive);
  std::optional<double> attn_factor;
  v.field("attn_factor", attn_factor, kPositive);
  v.require(!attn_factor,
            concat("rope_scaling.attn_factor is ", attn_factor.value_or(0),
                   ", expected none: transformers passes over it, vLLM multiplies the amplitude by "
                   "it; delete it or say the whole amplitude as attention_factor"));
}

void visit_fields(FieldVisitor& v, ModelConfig& c) {
  std::string model_type = c.model_type;
  v.choice("model_type", model_type, model_family_names());
  if (model_type != c.model_type) c = ModelConfig::of_family(model_type);
  visit_common_fields(v, c);
  model_family(c.model_type).visit(v, c);
  if (c.vocab_size > 0)
    for (const std::string& violation : c.violations()) v.require(false, violation);
}

}  // namespace moerl
