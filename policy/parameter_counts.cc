// Number of parameters of a ModelConfig.
#include <algorithm>

#include "policy/model_config.h"

namespace moerl {
namespace {

/// One matrix or vector group: how many numbers it holds in all, and how many one token meets.
struct Count {
  int64_t all = 0, active = 0;
  void add(int64_t n) { all += n, active += n; }
  void add(const Count& other) { all += other.all, active += other.active; }
};

int64_t latent_attention(const ModelConfig& c) {
  const int64_t d = c.hidden_size, heads = c.num_attention_heads;
  const int64_t q_out = heads * c.qk_head_dim();
  const int64_t q = c.q_lora_rank ? *c.q_lora_rank * (d + 1 + q_out) : q_out * d;
  return q + (c.kv_lora_rank + c.qk_rope_head_dim) * d + c.kv_lora_rank +
         heads * (c.qk_nope_head_dim + c.v_head_dim) * c.kv_lora_rank + d * heads * c.v_head_dim;
}

int64_t grouped_attention(const ModelConfig& c) {
  const int64_t d = c.hidden_size, q_out = c.num_attention_heads * c.head_dim;
  const int64_t qkv_out = q_out + 2 * c.num_key_value_heads * c.head_dim;
  return qkv_out * (d + (c.qkv_bias ? 1 : 0)) + d * (q_out + (c.o_bias ? 1 : 0)) +
         (c.qk_norm ? 2 * c.head_dim : 0);
}

/// The matrices of one decoder layer that precision fp8 holds in FP8 (transformer.h).
int64_t fp8_parameters(const ModelConfig& c, int64_t layer) {
  const int64_t d = c.hidden_size, heads = c.num_attention_heads;
  int64_t attention;
  if (c.attention == AttentionKind::kGrouped) {
    attention = 2 * d * (heads + c.num_key_value_heads) * c.head_dim;
  } else {
    const int64_t q_out = heads * c.qk_head_dim();
    attention = (c.q_lora_rank ? *c.q_lora_rank * (d + q_out) : q_out * d) +
                (c.kv_lora_rank + c.qk_rope_head_dim) * d + d * heads * c.v_head_dim;
  }
  if (!c.is_moe_layer(layer)) return attention + 3 * d * c.intermediate_size;
  return attention + (c.n_routed_experts + c.n_shared_experts) * 3 * d * c.moe_intermediate_size;
}

/// One decoder layer with its two norms.
Count layer_parameters(const ModelConfig& c, int64_t layer) {
  Count count;
  count.add(2 * c.hidden_size +
            (c.attention == AttentionKind::kGrouped ? grouped_attention(c) : latent_attention(c)));
  if (!c.is_moe_layer(layer)) {
    count.add(3 * c.hidden_size * c.intermediate_size);
    return count;
  }
  const int64_t expert = 3 * c.hidden_size * c.moe_intermediate_size;
  count.add(c.n_routed_experts * (c.hidden_size + (c.has_router_bias() ? 1 : 0)) +
            c.n_shared_experts * expert);
  count.all += c.n_routed_experts * expert;
  count.active += c.num_experts_per_tok * expert;
  return count;
}

/// Model without the MTP module.
Count main_parameters(const ModelConfig& c) {
  Count count;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    count.add(layer_parameters(c, layer));
  count.add(c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2) + c.hidden_size);
  return count;
}

}  // namespace

int64_t ModelConfig::num_parameters() const {
  int64_t n = main_parameters(*this).all;
  if (num_nextn_predict_layers > 0)  // with enorm, hnorm, shared_head.norm and eh_proj
    n += layer_parameters(*this, num_hidden_layers).all + 3 * hidden_size +
         2 * hidden_size * hidden_size;
  return n;
}

int64_t ModelConfig::num_active_parameters() const { return main_parameters(*this).active; }

int64_t ModelConfig::num_fp8_parameters() const {
  int64_t n = 0;
  for (int64_t layer = 0; layer < num_hidden_layers + num_nextn_predict_layers; ++layer)
    n += fp8_parameters(*this, layer);
  return n;
}

int64_t ModelConfig::num_routed_parameters() const {
  int64_t layers = 0;
  for (int64_t layer = 0; layer < num_hidden_layers + num_nextn_predict_layers; ++layer)
    layers += is_moe_layer(layer) ? 1 : 0;
  return layers * n_routed_experts * 3 * hidden_size * moe_intermediate_size;
}

}  // namespace moerl
