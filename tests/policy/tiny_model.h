#pragma once
// Small models with every feature of the architecture, and what tests do with them.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "common/rng.h"
#include "kernels/loss/token_log_prob.h"
#include "policy/transformer.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// q_lora_rank, YaRN, groups, two shared experts, an MTP module, untied; odd sizes throughout.
inline ModelConfig tiny_config() {
  ModelConfig c;
  c.vocab_size = 61;
  c.hidden_size = 40;
  c.intermediate_size = 28;
  c.moe_intermediate_size = 12;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 3;
  c.q_lora_rank = 24;
  c.kv_lora_rank = 20;
  c.qk_nope_head_dim = 8;
  c.qk_rope_head_dim = 4;
  c.v_head_dim = 12;
  c.n_routed_experts = 8;
  c.n_shared_experts = 2;
  c.num_experts_per_tok = 3;
  c.n_group = 4;
  c.topk_group = 2;
  c.first_k_dense_replace = 1;
  c.routed_scaling_factor = 2.5;
  c.num_nextn_predict_layers = 1;
  c.max_position_embeddings = 256;
  c.rope_scaling = {.type = "yarn",
                    .factor = 4,
                    .beta_fast = 8,
                    .beta_slow = 1,
                    .mscale = 0.8,
                    .mscale_all_dim = 1.2,
                    .original_max_position_embeddings = 64};
  c.initializer_range = 0.2;
  return c;
}
/// The other choices: no q_lora_rank, no YaRN, one group, tied embeddings, scores not normalised.
inline ModelConfig plain_config() {
  ModelConfig c = tiny_config();
  c.q_lora_rank.reset();
  c.rope_scaling = {};
  c.n_group = c.topk_group = 1;
  c.n_shared_experts = 1;
  c.tie_word_embeddings = true;
  c.norm_topk_prob = false;
  c.routed_scaling_factor = 0.7;
  c.num_nextn_predict_layers = 0;
  return c;
}
/// A small member of a family; odd sizes where the family allows them.
inline ModelConfig family_config(const std::string& model_type) {
  ModelConfig c = ModelConfig::of_family(model_type);
  const ModelConfig latent = tiny_config();
  c.vocab_size = 61;
  c.hidden_size = 40;
  c.intermediate_size = 28;
  c.num_hidden_layers = 3;
  c.max_position_embeddings = 256;
  c.initializer_range = 0.2;
  if (c.attention == AttentionKind::kLatent) {
    c.num_attention_heads = 3;
    c.kv_lora_rank = latent.kv_lora_rank;
    c.qk_nope_head_dim = latent.qk_nope_head_dim;
    c.qk_rope_head_dim = latent.qk_rope_head_dim;
    c.v_head_dim = latent.v_head_dim;
    c.n_group = 4;
    c.topk_group = 2;
  } else {
    c.num_attention_heads = 6;
    c.num_key_value_heads = 2;
    c.head_dim = 14;
  }
  if (c.has_router_bias() || c.scoring_func == "softmax") {
    c.n_routed_experts = 8;
    c.num_experts_per_tok = 3;
    c.moe_intermediate_size = 12;
  }
  return c;
}
inline ModelConfig tiny_deepseek_v2() {
  ModelConfig c = family_config("deepseek_v2");
  c.topk_method = "group_limited_greedy";
  c.routed_scaling_factor = 16;
  c.rope_scaling = tiny_config().rope_scaling;
  return c;
}
inline ModelConfig tiny_llama() {
  ModelConfig c = family_config("llama");
  c.qkv_bias = c.o_bias = true;
  c.rope_theta = 5000;
  c.rope_scaling = {.type = "llama3", .factor = 8, .original_max_position_embeddings = 64};
  return c;
}
inline ModelConfig tiny_qwen2() {
  ModelConfig c = family_config("qwen2");
  c.tie_word_embeddings = true;
  return c;
}
inline ModelConfig tiny_qwen3() {
  ModelConfig c = family_config("qwen3");
  c.rope_scaling = {.type = "yarn", .factor = 4, .original_max_position_embeddings = 64};
  return c;
}
inline ModelConfig tiny_qwen3_moe() {
  ModelConfig c = family_config("qwen3_moe");
  c.norm_topk_prob = true;
  c.mlp_only_layers = {1};
  return c;
}
inline ModelConfig with_form(ModelConfig config, const std::string& form) {
  config.mla_form = form;
  return config;
}

/// Random weights of a seed, on ctx's device; norms and router biases are uneven too. Packed,
/// gradients enabled.
inline std::unique_ptr<Transformer> make_model(ExecContext& ctx, const ModelConfig& config,
                                               Precision precision, uint64_t seed = 7,
                                               const ExpertParallel& experts = {}) {
  auto model =
      std::make_unique<Transformer>(config, precision, Masters::kKept, ctx.device(), experts);
  model->init_weights(seed);
  for (Parameter* p : model->parameters()) {
    if (p->value.shape().rank() >= 2) continue;
    const bool bias = p->is_buffer || p->name.ends_with(".bias");
    const float low = bias ? -0.05f : 0.7f, high = bias ? 0.05f : 1.3f;
    const std::vector<float> values =
        random_values(p->value.numel(), seed ^ hash64(p->name), low, high);
    p->value.copy_from_host(values.data());
  }
  model->pack(ctx);
  model->enable_gradients();
  return model;
}

inline std::vector<int32_t> random_tokens(int64_t n, int64_t vocab_size, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(vocab_size))));
  return tokens;
}
/// Sequences of the given lengths.
inline std::vector<std::vector<int32_t>> random_sequences(const std::vector<int64_t>& lengths,
                                                          const ModelConfig& config,
                                                          uint64_t seed = 3) {
  std::vector<std::vector<int32_t>> sequences;
  for (int64_t n : lengths)
    sequences.push_back(random_tokens(n, config.vocab_size, seed + sequences.size()));
  return sequences;
}

/// The token after each row's own; at a sequence's end its first one.
inline std::vector<int32_t> next_tokens(const std::vector<std::vector<int32_t>>& sequences,
                                        size_t distance = 1) {
  std::vector<int32_t> next;
  for (const std::vector<int32_t>& s : sequences)
    for (size_t i = 0; i < s.size(); ++i) next.push_back(s[(i + distance) % s.size()]);
  return next;
}

struct LossOptions {
  bool recompute = false;
  double balance_alpha = 0;
  double mtp_weight = 0;
  float token_weight = 0.25f;  ///< of each token's cross-entropy
};

/// Cross-entropy of every row's next token (weighted), plus the MTP module's of the one after next,
/// plus the balance loss; gradients are added to the model's.
struct LossResult {
  double loss = 0;
  RoutingCounts routing;
};
inline double cross_entropy(ExecContext& ctx, Transformer& model, const Tensor& hidden,
                            const std::vector<int32_t>& targets, float weight, Tensor& dhidden) {
  const size_t n = targets.size();
  std::vector<float> log_probs(n), entropy(n), lse(n), dlog_probs(n, -weight);
  const int64_t vocab = model.config().vocab_size;
  kernels::token_log_prob_forward(ctx, hidden, model.head(), vocab, 1, targets, log_probs, entropy,
                                  lse);
  dhidden = ctx.empty(hidden.shape(), hidden.dtype());
  kernels::token_log_prob_backward(ctx, hidden, model.head(), vocab, 1, targets, lse, entropy,
                                   dlog_probs, {}, dhidden, model.head_grad());
  double loss = 0;
  for (float l : log_probs) loss -= weight * l;
  return loss;
}
inline LossResult loss_and_gradients(ExecContext& ctx, Transformer& model,
                                     const std::vector<std::vector<int32_t>>& sequences,
                                     const LossOptions& options = {}) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(model.config(), model.dtype(), std::max<int64_t>(packed.num_blocks, 1),
                model.device());
  TrainingPass pass;
  pass.recompute = options.recompute;
  pass.balance_alpha = options.balance_alpha;
  const std::vector<int32_t> next = next_tokens(sequences);
  LossResult result;
  const Tensor hidden = model.forward(ctx, packed.batch, cache, &pass);
  Tensor dhidden;
  result.loss += cross_entropy(ctx, model, hidden, next, options.token_weight, dhidden);
  if (options.mtp_weight > 0) {
    const Tensor mtp = model.mtp_forward(ctx, hidden, next, packed.batch, cache, &pass);
    Tensor dmtp;
    result.loss += cross_entropy(ctx, model, mtp, next_tokens(sequences, 2),
                                 static_cast<float>(options.mtp_weight), dmtp);
    model.mtp_backward(ctx, dmtp, next, packed.batch, pass, dhidden);
  }
  result.loss += pass.balance_loss;
  result.routing = pass.routing;
  model.backward(ctx, dhidden, packed.batch, pass);
  return result;
}

/// The gradients of all parameters, copied to the host.
inline std::vector<Tensor> gradients(const Transformer& model) {
  std::vector<Tensor> out;
  for (const Parameter* p : model.parameters())
    if (!p->is_buffer) out.push_back(p->grad.clone().to(Device::kCpu));
  return out;
}

}  // namespace moerl::testing
