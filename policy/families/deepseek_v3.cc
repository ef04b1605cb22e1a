// DeepSeek-V3, R1, Moonlight, Kimi K2 (arXiv:2412.19437).
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_latent_attention(v, c);
  v.field("rope_interleave", c.rope_interleave);
  visit_deepseek_experts(v, c);
  v.choice("scoring_func", c.scoring_func, {"sigmoid"});
  v.choice("topk_method", c.topk_method, {"noaux_tc"});
  v.field("num_nextn_predict_layers", c.num_nextn_predict_layers, Range{0, 1});
}

}  // namespace

ModelFamily deepseek_v3_family() {
  return {"deepseek_v3", "DeepseekV3ForCausalLM", [](ModelConfig&) {}, visit};
}

}  // namespace moerl
