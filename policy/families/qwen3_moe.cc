// Qwen3 with experts (arXiv:2505.09388): the attention of qwen3; softmax over all experts, no
// shared expert, and every decoder_sparse_step-th layer has experts.
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void set_up(ModelConfig& c) {
  set_grouped_attention(c);
  c.qk_norm = true;
  c.scoring_func = "softmax";
  c.topk_method = "greedy";
  c.norm_topk_prob = false;
  c.n_shared_experts = c.first_k_dense_replace = 0;
  c.moe_layer_shift = 1;
}

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_grouped_attention(v, c);
  v.field("attention_bias", c.qkv_bias);
  c.o_bias = c.qkv_bias;
  refuse_sliding_window(v);
  v.field("num_experts", c.n_routed_experts, kNotNegative);
  v.field("num_experts_per_tok", c.num_experts_per_tok, kNotNegative);
  v.field("moe_intermediate_size", c.moe_intermediate_size, kNotNegative);
  v.field("norm_topk_prob", c.norm_topk_prob);
  v.field("decoder_sparse_step", c.moe_layer_freq, kAtLeastOne);
  v.field("mlp_only_layers", c.mlp_only_layers, kNotNegative);
  v.ignored("router_aux_loss_coef");
}

}  // namespace

ModelFamily qwen3_moe_family() { return {"qwen3_moe", "Qwen3MoeForCausalLM", set_up, visit}; }

}  // namespace moerl
