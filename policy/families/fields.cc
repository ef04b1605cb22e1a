#include "policy/families/fields.h"

#include <algorithm>

#include "common/check.h"

namespace moerl {
namespace {

/// Keys of published configurations that change nothing here.
constexpr const char* kIgnoredKeys[] = {"architectures",
                                        "auto_map",
                                        "attention_dropout",
                                        "pretraining_tp",
                                        "torch_dtype",
                                        "dtype",
                                        "transformers_version",
                                        "use_cache",
                                        "quantization_config",
                                        "pad_token_id",
                                        "_name_or_path",
                                        "_attn_implementation_autoset",
                                        "output_router_logits",
                                        "output_attentions",
                                        "output_hidden_states",
                                        "return_dict",
                                        "is_encoder_decoder",
                                        "chunk_size_feed_forward",
                                        "problem_type",
                                        "id2label",
                                        "label2id",
                                        "_attn_implementation",
                                        "tokenizer_class",
                                        "torchscript",
                                        "max_length",
                                        "min_length",
                                        "do_sample",
                                        "temperature",
                                        "top_k",
                                        "top_p",
                                        "repetition_penalty",
                                        "unsloth_fixed",
                                        "unsloth_version"};

void visit_eos_token_ids(FieldVisitor& v, ModelConfig& c) {
  std::vector<int64_t> ids = c.further_eos_token_ids;
  if (c.eos_token_id) ids.insert(ids.begin(), *c.eos_token_id);
  v.field("eos_token_id", ids, kNotNegative);
  c.eos_token_id.reset();
  if (!ids.empty()) {
    c.eos_token_id = ids[0];
    ids.erase(ids.begin());
  }
  c.further_eos_token_ids = ids;
}

}  // namespace

void visit_common_fields(FieldVisitor& v, ModelConfig& c) {
  std::string hidden_act = "silu";
  v.field("vocab_size", c.vocab_size, kAtLeastOne);
  v.field("hidden_size", c.hidden_size, kAtLeastOne);
  v.field("intermediate_size", c.intermediate_size, kNotNegative);
  v.field("num_hidden_layers", c.num_hidden_layers, kAtLeastOne);
  v.field("num_attention_heads", c.num_attention_heads, kAtLeastOne);
  v.field("max_position_embeddings", c.max_position_embeddings, kAtLeastOne);
  v.choice("hidden_act", hidden_act, {"silu"});
  v.field("rms_norm_eps", c.rms_norm_eps, kPositive);
  v.field("rope_theta", c.rope_theta, kPositive);
  v.group("rope_scaling", c.rope_scaling);
  v.field("tie_word_embeddings", c.tie_word_embeddings);
  v.field("initializer_range", c.initializer_range, kNotNegative);
  v.field("bos_token_id", c.bos_token_id, kNotNegative);
  visit_eos_token_ids(v, c);
  v.field("num_token_ids", c.num_token_ids, kAtLeastOne);
  for (const char* key : kIgnoredKeys) v.ignored(key);
}

void visit_latent_attention(FieldVisitor& v, ModelConfig& c) {
  c.attention = AttentionKind::kLatent;
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
  expect_false(v, "attention_bias", "projections of latent attention have no bias");
  v.choice("mla_form", c.mla_form, {"expanded", "absorbed"});
  for (const char* key : {"head_dim", "qk_head_dim"}) v.ignored(key);  // follow from the others
}

void visit_deepseek_experts(FieldVisitor& v, ModelConfig& c) {
  v.field("moe_intermediate_size", c.moe_intermediate_size, kNotNegative);
  v.field("n_routed_experts", c.n_routed_experts, kNotNegative);
  v.field("n_shared_experts", c.n_shared_experts, kNotNegative);
  v.field("num_experts_per_tok", c.num_experts_per_tok, kNotNegative);
  v.field("n_group", c.n_group, kAtLeastOne);
  v.field("topk_group", c.topk_group, kAtLeastOne);
  v.field("first_k_dense_replace", c.first_k_dense_replace, kNotNegative);
  v.field("moe_layer_freq", c.moe_layer_freq, kAtLeastOne);
  v.field("norm_topk_prob", c.norm_topk_prob);
  v.field("routed_scaling_factor", c.routed_scaling_factor, kPositive);
  for (const char* key : {"aux_loss_alpha", "seq_aux", "ep_size", "router_jitter_noise"})
    v.ignored(key);
}

void set_grouped_attention(ModelConfig& c) {
  c.attention = AttentionKind::kGrouped;
  c.rope_interleave = false;
}

void set_dense(ModelConfig& c) {
  c.n_routed_experts = c.n_shared_experts = 0;
  c.topk_method = "greedy";
}

void visit_grouped_attention(FieldVisitor& v, ModelConfig& c) {
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  v.field("num_key_value_heads", c.num_key_value_heads, kAtLeastOne);
  if (c.head_dim == 0 && c.num_attention_heads > 0)
    c.head_dim = c.hidden_size / c.num_attention_heads;
  v.field("head_dim", c.head_dim, kAtLeastOne);
}

void refuse_sliding_window(FieldVisitor& v) {
  expect_false(v, "use_sliding_window", "attention sees all earlier positions");
  for (const char* key : {"sliding_window", "max_window_layers"}) v.ignored(key);
}

void refuse_other_layer_types(FieldVisitor& v, const ModelConfig& c) {
  // More layers than any model has are refused by ModelConfig::violations.
  const auto layers = static_cast<size_t>(std::min<int64_t>(c.num_hidden_layers, 1024));
  std::vector<std::string> types(layers, "full_attention");
  v.field("layer_types", types);
  for (const std::string& type : types)
    v.require(type == "full_attention",
              concat("layer_types has '", type, "', expected full_attention alone"));
}

void expect_false(FieldVisitor& v, const char* key, const char* why) {
  bool value = false;
  v.field(key, value);
  v.require(!value, concat(key, " is true, expected false: ", why));
}

}  // namespace moerl
