#pragma once
#include <memory>
#include <string>

#include "experiments/recipe.h"
#include "policy/tokenizer.h"
#include "policy/transformer.h"

namespace moerl {

/// Tokenizer of a recipe's model and its text, which goes into every checkpoint.
struct LoadedTokenizer {
  policy::Tokenizer tokenizer;
  std::string json;
  int32_t stop_token_id = 0;  ///< ends a completion
};

/// The config of the recipe's model, with the recipe's mla_form. @throws ConfigError, IoError.
ModelConfig load_model_config(const Recipe& recipe);

/// The tokenizer of the recipe's model: the one that the recipe names, the model directory's, or
/// the task's own. @throws ConfigError if it does not fit the model; IoError.
LoadedTokenizer load_tokenizer(const Recipe& recipe, const TaskData& task,
                               const ModelConfig& config);

DType parse_dtype(const std::string& name);

/// The model of the recipe with token ids limited to the tokenizer's, without weights.
std::unique_ptr<Transformer> make_policy(const Recipe& recipe, const policy::Tokenizer& tokenizer);

}  // namespace moerl
