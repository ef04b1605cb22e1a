#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/recipe.h"
#include "policy/tokenizer.h"
#include "policy/transformer.h"

namespace moerl {

/// Tokenizer of a model and its text, which goes into every checkpoint.
struct LoadedTokenizer {
  policy::Tokenizer tokenizer;
  std::string json;
  /// Each ends a completion; the first one ends a demonstration. May be empty for a model that is
  /// opened to be scored only.
  std::vector<int32_t> stop_token_ids;
  /// What `transformers` puts around a text that is not a rendered chat, such as BOS.
  policy::TokenFrame frame;

  /// The tokens of a whole text inside the frame; what the text holds of it already is not added.
  std::vector<int32_t> encode_framed(std::string_view text) const;
};

/// Reads a tokenizer for a model.
/// @param json  text of a tokenizer.json. @param name  how errors call it.
/// @param directory  of the model, or empty. Used if they are there: generation_config.json, whose
///   eos_token_id (an id or a list) goes before the config's, and tokenizer_config.json, whose
///   add_bos_token and add_eos_token go before the tokenizer's post-processor.
/// @throws ConfigError if an id does not fit the model or the tokenizer; IoError.
LoadedTokenizer fit_tokenizer(std::string json, const std::string& name, const ModelConfig& config,
                              const std::filesystem::path& directory);

/// The config of the recipe's model, with the recipe's mla_form. @throws ConfigError, IoError.
ModelConfig load_model_config(const Recipe& recipe);

/// The tokenizer of the recipe's model: the one that the recipe names, the model directory's, or
/// the task's own. @throws ConfigError if it does not fit the model or no token ends a completion;
/// IoError.
LoadedTokenizer load_tokenizer(const Recipe& recipe, const TaskData& task,
                               const ModelConfig& config);

/// @throws std::invalid_argument unless it is bf16, f32 or fp8.
Precision parse_precision(const std::string& name);
/// "cpu" or "cuda". @throws std::invalid_argument for another name.
Device parse_device(const std::string& name);

/// The model of the recipe with token ids limited to the tokenizer's, without weights.
/// @param experts  the ranks that it is spread over.
std::unique_ptr<Transformer> make_policy(const Recipe& recipe, const policy::Tokenizer& tokenizer,
                                         Masters masters, const ExpertParallel& experts = {});

}  // namespace moerl
