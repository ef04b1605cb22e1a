// Llama 2 and 3, R1-Distill-Llama.
#include "policy/families/family.h"
#include "policy/families/fields.h"

namespace moerl {
namespace {

void set_up(ModelConfig& c) {
  set_grouped_attention(c);
  set_dense(c);
}

void visit(FieldVisitor& v, ModelConfig& c) {
  visit_grouped_attention(v, c);
  v.field("attention_bias", c.qkv_bias);
  c.o_bias = c.qkv_bias;
  expect_false(v, "mlp_bias", "feed-forward layers have no bias");
}

}  // namespace

ModelFamily llama_family() { return {"llama", "LlamaForCausalLM", set_up, visit}; }

}  // namespace moerl
