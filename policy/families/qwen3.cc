// Qwen3, dense (arXiv:2505.09388): an RMSNorm over each head of q and k.
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void set_up(ModelConfig& c) {
  set_grouped_attention(c);
  c.head_dim = 128;
  c.qk_norm = true;
  set_dense(c);
}

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_grouped_attention(v, c);
  v.field("attention_bias", c.qkv_bias);
  c.o_bias = c.qkv_bias;
  refuse_sliding_window(v);
  refuse_other_layer_types(v, c);
}

}  // namespace

ModelFamily qwen3_family() { return {"qwen3", "Qwen3ForCausalLM", set_up, visit}; }

}  // namespace moerl
