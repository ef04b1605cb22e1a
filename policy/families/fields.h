#pragma once
// Fields that several families have in common.
#include "policy/model_config.h"

namespace moerl {

/// What every config.json has; keys that change nothing here are passed over by name.
void visit_common_fields(FieldVisitor& v, ModelConfig& c);

/// Latent attention and experts of DeepSeek's families, but for the router's method.
void visit_latent_attention(FieldVisitor& v, ModelConfig& c);
void visit_deepseek_experts(FieldVisitor& v, ModelConfig& c);

/// Set-up of grouped attention, with rotary pairs in halves, and of a model without experts.
void set_grouped_attention(ModelConfig& c);
void set_dense(ModelConfig& c);
/// num_key_value_heads (absent: H) and head_dim (absent: what it is already, or D / H if that is
/// 0).
void visit_grouped_attention(FieldVisitor& v, ModelConfig& c);
/// Refuses a sliding window that is in use.
void refuse_sliding_window(FieldVisitor& v);
/// Refuses a list of the layers' kinds of attention that names another than full attention.
void refuse_other_layer_types(FieldVisitor& v, const ModelConfig& c);
/// A key that must be false, because what it switches on does not exist here.
void expect_false(FieldVisitor& v, const char* key, const char* why);

}  // namespace moerl
