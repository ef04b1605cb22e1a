#include "experiments/model_source.h"

#include "common/check.h"
#include "common/file.h"

namespace moerl {

ModelConfig load_model_config(const Recipe& recipe) {
  const std::filesystem::path path = recipe.model.path.empty()
                                         ? recipe.resolve(recipe.model.config)
                                         : recipe.resolve(recipe.model.path) / "config.json";
  ModelConfig config = ModelConfig::from_json(path.string(), read_file(path));
  if (!recipe.model.mla_form.empty()) config.mla_form = recipe.model.mla_form;
  return config;
}

LoadedTokenizer load_tokenizer(const Recipe& recipe, const TaskData& task,
                               const ModelConfig& config) {
  std::string json, name = "the task's tokenizer";
  if (!recipe.model.tokenizer.empty() || !recipe.model.path.empty()) {
    const std::filesystem::path path = recipe.model.tokenizer.empty()
                                           ? recipe.resolve(recipe.model.path) / "tokenizer.json"
                                           : recipe.resolve(recipe.model.tokenizer);
    json = read_file(path);
    name = path.string();
  } else {
    json = task.tokenizer_json;
    if (json.empty())
      throw ConfigError(
          "model.tokenizer is missing: neither the model nor the task brings a tokenizer");
  }
  policy::Tokenizer tokenizer = policy::Tokenizer::from_json(json, name);
  if (tokenizer.vocab_size() > config.vocab_size)
    throw ConfigError(concat(name, " has ", tokenizer.vocab_size(),
                             " token ids, the model's vocab_size is ", config.vocab_size));
  if (!config.eos_token_id || *config.eos_token_id >= tokenizer.vocab_size())
    throw ConfigError(concat("the model's eos_token_id must be an id of ", name, ", below ",
                             tokenizer.vocab_size()));
  return {std::move(tokenizer), std::move(json), static_cast<int32_t>(*config.eos_token_id)};
}

DType parse_dtype(const std::string& name) {
  check(name == "f32" || name == "bf16", "dtype is '", name, "', expected bf16 or f32");
  return name == "f32" ? DType::kF32 : DType::kBF16;
}

std::unique_ptr<Transformer> make_policy(const Recipe& recipe, const policy::Tokenizer& tokenizer) {
  ModelConfig config = load_model_config(recipe);
  if (!config.num_token_ids) config.num_token_ids = tokenizer.vocab_size();
  return std::make_unique<Transformer>(config, parse_dtype(recipe.model.dtype));
}

}  // namespace moerl
