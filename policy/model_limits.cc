#include "policy/model_limits.h"

#include <tuple>

#include "common/check.h"

namespace moerl {

std::vector<std::string> oversizes(const ModelConfig& c) {
  const std::tuple<const char*, int64_t, int64_t> limits[] = {
      {"vocab_size", c.vocab_size, 1 << 24},
      {"hidden_size", c.hidden_size, 1 << 20},
      {"intermediate_size", c.intermediate_size, 1 << 24},
      {"moe_intermediate_size", c.moe_intermediate_size, 1 << 24},
      {"num_hidden_layers", c.num_hidden_layers, 1 << 10},
      {"num_attention_heads", c.num_attention_heads, 1 << 12},
      {"q_lora_rank", c.q_lora_rank.value_or(0), 1 << 20},
      {"kv_lora_rank", c.kv_lora_rank, 1 << 20},
      {"qk_nope_head_dim", c.qk_nope_head_dim, 1 << 14},
      {"qk_rope_head_dim", c.qk_rope_head_dim, 1 << 14},
      {"v_head_dim", c.v_head_dim, 1 << 14},
      {"num_key_value_heads", c.num_key_value_heads, 1 << 12},
      {"head_dim", c.head_dim, 1 << 14},
      {"n_routed_experts", c.n_routed_experts, 1 << 16},
      {"n_shared_experts", c.n_shared_experts, 1 << 16},
      {"num_experts_per_tok", c.num_experts_per_tok, 1 << 16},
      {"max_position_embeddings", c.max_position_embeddings, int64_t{1} << 28}};
  std::vector<std::string> out;
  for (const auto& [name, value, limit] : limits)
    if (value > limit) out.push_back(concat(name, " is ", value, ", expected at most ", limit));
  if (!out.empty()) return out;
  for (const auto& [name, experts] : {std::pair{"n_routed_experts", c.n_routed_experts},
                                      {"n_shared_experts", c.n_shared_experts}})
    if (experts * c.moe_intermediate_size > int64_t{1} << 30)
      out.push_back(concat(name, " times moe_intermediate_size is ",
                           experts * c.moe_intermediate_size, ", expected at most ", 1 << 30));
  return out;
}

}  // namespace moerl
