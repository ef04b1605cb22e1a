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

/// rope_scaling of config.json. `type` "linear", "yarn", "llama3", or "" for none.
struct RopeScaling {
  std::string type;
  double factor = 1;
  double beta_fast = 32, beta_slow = 1;  ///< yarn, and the next three
  std::optional<double> mscale, mscale_all_dim, attention_factor;
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  /// yarn and llama3; absent: max_position_embeddings.
  std::optional<int64_t> original_max_position_embeddings;
};

enum class AttentionKind {
  kLatent,   ///< multi-head latent attention (layers/mla.h)
  kGrouped,  ///< heads that share key heads in groups (layers/gqa.h)
};

/// Shape of a model; field names and meanings of Hugging Face's config.json. Comments give the
/// symbols that the code uses for shapes. A family (policy/families) says which of these its
/// config.json spells out and fixes the others; the layers read fields and know no family.
struct ModelConfig {
  std::string model_type = "deepseek_v3";
  int64_t vocab_size = 0;         ///< V
  int64_t hidden_size = 0;        ///< D
  int64_t intermediate_size = 0;  ///< of dense layers
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;  ///< H
  int64_t max_position_embeddings = 4096;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool rope_interleave = true;  ///< rotary pairs are neighbours; false: one in each half
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  std::optional<int64_t> bos_token_id, eos_token_id;
  std::vector<int64_t> further_eos_token_ids;  ///< where eos_token_id is a list: those behind it

  AttentionKind attention = AttentionKind::kLatent;
  // Latent attention
  std::optional<int64_t> q_lora_rank;  ///< absent: q_proj straight from hidden
  int64_t kv_lora_rank = 0;            ///< dc
  int64_t qk_nope_head_dim = 0;        ///< dn
  int64_t qk_rope_head_dim = 0;        ///< dr
  int64_t v_head_dim = 0;              ///< dv
  /// How latent attention is computed, in sampling and training alike: "expanded" (MHA, keys and
  /// values of every head are cached) or "absorbed" (MQA over the latent, the small cache). Not a
  /// Hugging Face field.
  std::string mla_form = "expanded";
  // Grouped attention
  int64_t num_key_value_heads = 0;        ///< Hk
  int64_t head_dim = 0;                   ///< dh
  bool qkv_bias = false, o_bias = false;  ///< of q_proj, k_proj, v_proj; of o_proj
  bool qk_norm = false;                   ///< an RMSNorm over each head of q and of k

  // Experts; a model without has n_routed_experts = 0
  int64_t n_routed_experts = 0;  ///< E
  int64_t n_shared_experts = 1;
  int64_t num_experts_per_tok = 0;  ///< K
  int64_t moe_intermediate_size = 0;
  std::string scoring_func = "sigmoid";  ///< or "softmax"
  std::string topk_method = "noaux_tc";  ///< or "greedy", "group_limited_greedy"
  int64_t n_group = 1, topk_group = 1;   ///< unused by "greedy"
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1;
  int64_t first_k_dense_replace = 1;  ///< layers 0 … are dense
  int64_t moe_layer_freq = 1;         ///< layer + moe_layer_shift is a multiple of it
  int64_t moe_layer_shift = 0;
  std::vector<int64_t> mlp_only_layers;  ///< dense whatever the rest says

  int64_t num_nextn_predict_layers = 0;  ///< MTP modules: 0 or 1
  /// Token ids that exist; rows of the vocabulary from here on are padding: they are never sampled,
  /// and no distribution counts them. Absent: all. Not a Hugging Face field.
  std::optional<int64_t> num_token_ids;

  int64_t sampled_vocab_size() const { return num_token_ids.value_or(vocab_size); }
  bool is_moe_layer(int64_t layer) const;
  /// Whether e_score_correction_bias takes part in the choice of experts.
  bool has_router_bias() const { return topk_method == "noaux_tc"; }
  bool absorbed() const { return attention == AttentionKind::kLatent && mla_form == "absorbed"; }
  /// "grouped", or mla_form: the numbers of two forms differ in rounding.
  std::string attention_form() const {
    return attention == AttentionKind::kGrouped ? "grouped" : mla_form;
  }
  /// Width of a query head.
  int64_t qk_head_dim() const {
    return attention == AttentionKind::kGrouped ? head_dim : qk_nope_head_dim + qk_rope_head_dim;
  }
  /// Of the attention kernel: key heads and widths that the chosen form caches.
  int64_t num_kv_heads() const;
  int64_t k_head_dim() const {
    return absorbed() ? kv_lora_rank + qk_rope_head_dim : qk_head_dim();
  }
  /// In the absorbed form the value is the first of the key's columns.
  int64_t cached_v_head_dim() const;
  kernels::RopeConfig rope() const;
  kernels::RopePairing rope_pairing() const {
    return rope_interleave ? kernels::RopePairing::kInterleaved : kernels::RopePairing::kHalves;
  }
  kernels::GateConfig gate() const;
  /// 1 / sqrt(qk_head_dim()); in latent attention times YaRN's correction.
  float softmax_scale() const;
  /// Parameters in all, and those that one token meets (embedding row table and head included).
  int64_t num_parameters() const;
  int64_t num_active_parameters() const;
  /// Of num_parameters(), those whose products are in FP8 where the precision says so.
  int64_t num_fp8_parameters() const;
  /// Of num_parameters(), those of the routed experts.
  int64_t num_routed_parameters() const;

  /// Number of layers with experts, without the MTP module's.
  int64_t num_moe_layers() const;

  /// What does not fit together, one message each; empty when the shape can be built.
  std::vector<std::string> violations() const;

  /// The defaults of a family; the rest is the caller's to fill in.
  /// @throws ConfigError if there is no such family.
  static ModelConfig of_family(const std::string& model_type);
  /// @param name  how errors call the text, such as the file's path.
  /// @throws ConfigError listing every violation: unknown keys by name, bad values, shapes that do
  /// not fit. Keys of published configs that have no meaning here are ignored by name. Both
  /// spellings of the rotary settings are read: rope_theta with rope_scaling, and rope_parameters.
  /// A null counts as an absent key.
  static ModelConfig from_json(const std::string& name, const std::string& text);
  /// config.json text that transformers accepts, versions 4 and 5. @param dtype goes into
  /// torch_dtype.
  std::string to_json(DType dtype) const;
};

void visit_fields(FieldVisitor& v, RopeScaling& c);
/// Checks the fit of the shapes only where vocab_size is given: without it the model comes from
/// elsewhere.
void visit_fields(FieldVisitor& v, ModelConfig& c);

}  // namespace moerl
