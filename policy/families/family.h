#pragma once
#include <string>
#include <vector>

#include "policy/model_config.h"

namespace moerl {

/// A family of published models is a configuration of the same layers.
struct ModelFamily {
  std::string model_type;    ///< of config.json
  std::string architecture;  ///< the class in transformers
  /// Sets the fields of a default ModelConfig that all its members share.
  void (*set_up)(ModelConfig& c);
  /// Walks the fields that its config.json spells out beside the common ones, under Hugging Face's
  /// names; reading, writing and the recipe's dump all come from it. The fields that
  /// visit_common_fields walks have been read.
  void (*visit)(FieldVisitor& v, ModelConfig& c);
};

/// @throws ConfigError naming the known families.
const ModelFamily& model_family(const std::string& model_type);
/// The model_type of each.
std::vector<std::string> model_family_names();

/// A config.json with the keys spelled out that other programs, where they are left out, take for
/// something else than ModelConfig::from_json does.
/// @param config_json  a text that from_json accepts.
std::string with_left_out_keys(const std::string& config_json);

// One for each file of this folder.
ModelFamily deepseek_v2_family();
ModelFamily deepseek_v3_family();
ModelFamily llama_family();
ModelFamily qwen2_family();
ModelFamily qwen3_family();
ModelFamily qwen3_moe_family();

}  // namespace moerl
