// Qwen2, Qwen2.5, R1-Distill-Qwen (arXiv:2407.10671): q, k and v have a bias.
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void set_up(ModelConfig& c) {
  set_grouped_attention(c);
  c.qkv_bias = true;
  set_dense(c);
}

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_grouped_attention(v, c);
  refuse_sliding_window(v);
  refuse_other_layer_types(v, c);
  expect_false(v, "use_mrope", "positions have one dimension");
}

}  // namespace

ModelFamily qwen2_family() { return {"qwen2", "Qwen2ForCausalLM", set_up, visit}; }

}  // namespace moerl
