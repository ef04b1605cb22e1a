#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/config.h"
#include "kernels/attention/rope.h"
#include "kernels/dtype.h"
#include "kernels/moe/topk_gate.h"

namespace moerl {

/// rope_scaling of config.json. `type` "yarn", or "" for none.
struct RopeScaling {
  std::string type;
  double factor = 1, beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0;
  int64_t original_max_position_embeddings = 4096;
};

/// Shape of a DeepSeek-V3-architecture model; field names and meanings of Hugging Face's
/// config.json. Comments give the symbols that the code uses for shapes.
struct ModelConfig {
  int64_t vocab_size = 0;         ///< V
  int64_t hidden_size = 0;        ///< D
  int64_t intermediate_size = 0;  ///< of dense layers
  int64_t moe_intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;     ///< H
  std::optional<int64_t> q_lora_rank;  ///< absent: q_proj straight from hidden
  int64_t kv_lora_rank = 0;            ///< dc
  int64_t qk_nope_head_dim = 0;        ///< dn
  int64_t qk_rope_head_dim = 0;        ///< dr
  int64_t v_head_dim = 0;              ///< dv
  int64_t n_routed_experts = 0;        ///< E
  int64_t n_shared_experts = 1;
  int64_t num_experts_per_tok = 0;  ///< K
  int64_t n_group = 1, topk_group = 1;
  int64_t first_k_dense_replace = 1;  ///< layers 0 … are dense
  int64_t moe_layer_freq = 1;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;
  int64_t num_nextn_predict_layers = 0;  ///< MTP modules: 0 or 1
  int64_t max_position_embeddings = 4096;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  std::optional<int64_t> bos_token_id, eos_token_id;
  /// How attention is computed, in sampling and training alike: "expanded" (MHA, keys and values of
  /// every head are cached) or "absorbed" (MQA over the latent, the small cache). Not a Hugging
  /// Face field.
  std::string mla_form = "expanded";
  /// Token ids that exist; rows of the vocabulary from here on are padding: they are never sampled,
  /// and no distribution counts them. Absent: all. Not a Hugging Face field.
  std::optional<int64_t> num_token_ids;
  int64_t sampled_vocab_size() const { return num_token_ids.value_or(vocab_size); }

  bool is_moe_layer(int64_t layer) const {
    return layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  bool absorbed() const { return mla_form == "absorbed"; }
  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  /// Of the attention kernel: key heads and widths that the chosen form caches.
  int64_t num_kv_heads() const { return absorbed() ? 1 : num_attention_heads; }
  int64_t k_head_dim() const {
    return absorbed() ? kv_lora_rank + qk_rope_head_dim : qk_head_dim();
  }
  int64_t cached_v_head_dim() const { return absorbed() ? kv_lora_rank : v_head_dim; }
  kernels::RopeConfig rope() const;
  kernels::GateConfig gate() const;
  /// 1 / sqrt(dn + dr), times YaRN's correction.
  float softmax_scale() const;
  /// Parameters in all, and those that one token meets (embedding row table and head included).
  int64_t num_parameters() const;
  int64_t num_active_parameters() const;

  /// Number of layers with experts, without the MTP module's.
  int64_t num_moe_layers() const;

  /// What does not fit together, one message each; empty when the shape can be built.
  std::vector<std::string> violations() const;

  /// @param name  how errors call the text, such as the file's path.
  /// @throws ConfigError listing every violation: unknown keys by name, bad values, shapes that do
  /// not fit. Keys of published configs that have no meaning here are ignored by name. Both
  /// spellings of the rotary settings are read: rope_theta with rope_scaling, and rope_parameters.
  static ModelConfig from_json(const std::string& name, const std::string& text);
  /// config.json text that transformers accepts. @param dtype goes into torch_dtype.
  std::string to_json(DType dtype) const;
};

void visit_fields(FieldVisitor& v, RopeScaling& c);
/// Checks the fit of the shapes only where vocab_size is given: without it the model comes from
/// elsewhere.
void visit_fields(FieldVisitor& v, ModelConfig& c);

}  // namespace moerl
