// DeepSeek-V2 and V2-Lite (arXiv:2405.04434): softmax scores, no bias, groups worth their best
// expert.
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void set_up(ModelConfig& c) {
  c.scoring_func = "softmax";
  c.topk_method = "greedy";
  c.norm_topk_prob = false;
}

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_latent_attention(v, c);
  visit_deepseek_experts(v, c);
  v.choice("scoring_func", c.scoring_func, {"softmax"});
  v.choice("topk_method", c.topk_method, {"greedy", "group_limited_greedy"});
  v.require(!c.norm_topk_prob,
            "norm_topk_prob is true, expected false: implementations disagree about it");
  expect_false(v, "mlp_bias", "feed-forward layers have no bias");
}

}  // namespace

ModelFamily deepseek_v2_family() { return {"deepseek_v2", "DeepseekV2ForCausalLM", set_up, visit}; }

}  // namespace moerl
