#include "experiments/model_source.h"

#include <algorithm>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

/// A file of the model directory; an empty object if it is not there.
nlohmann::json companion(const fs::path& directory, const char* name) {
  const fs::path path = directory / name;
  if (directory.empty() || !fs::exists(path)) return nlohmann::json::object();
  nlohmann::json json = try_parse_json(read_file(path));
  if (!json.is_object()) throw IoError(concat(path.string(), ": expected a JSON object"));
  return json;
}

/// The ids of `eos_token_id` in a generation_config.json.
std::vector<int64_t> end_tokens_of(const fs::path& directory) {
  const nlohmann::json config = companion(directory, "generation_config.json");
  const auto item = config.find("eos_token_id");
  std::vector<int64_t> ids;
  if (item == config.end() || item->is_null()) return ids;
  for (const auto& id : item->is_array() ? *item : nlohmann::json::array({*item})) {
    if (!id.is_number_unsigned())
      throw IoError(concat((directory / "generation_config.json").string(), ": eos_token_id is ",
                           item->dump(), ", expected an id or a list of ids"));
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// The id of a token that tokenizer_config.json names as text or as {"content": text}.
int32_t named_token(const nlohmann::json& config, const char* key, const policy::Tokenizer& tokens,
                    const fs::path& directory) {
  const nlohmann::json value = config.value(key, nlohmann::json());
  const nlohmann::json text = value.is_object() ? value.value("content", nlohmann::json()) : value;
  const auto id = text.is_string() ? tokens.token_id(text.get<std::string>()) : std::nullopt;
  if (!id)
    throw ConfigError(concat((directory / "tokenizer_config.json").string(), ": ", key, " is ",
                             value.dump(), ", expected a token of the tokenizer"));
  return *id;
}

/// An explicit add_bos_token or add_eos_token replaces that side of the tokenizer's own frame where
/// the two disagree.
policy::TokenFrame frame_of(const policy::Tokenizer& tokenizer, const fs::path& directory) {
  policy::TokenFrame frame = tokenizer.frame();
  const nlohmann::json config = companion(directory, "tokenizer_config.json");
  const auto apply = [&](const char* flag, const char* token, std::vector<int32_t>& side) {
    const auto item = config.find(flag);
    if (item == config.end() || !item->is_boolean()) return;
    if (!item->get<bool>()) side.clear();
    if (item->get<bool>() && side.empty())
      side.push_back(named_token(config, token, tokenizer, directory));
  };
  apply("add_bos_token", "bos_token", frame.prefix);
  apply("add_eos_token", "eos_token", frame.suffix);
  return frame;
}

}  // namespace

LoadedTokenizer fit_tokenizer(std::string json, const std::string& name, const ModelConfig& config,
                              const fs::path& directory) {
  policy::Tokenizer tokenizer = policy::Tokenizer::from_json(json, name);
  if (tokenizer.vocab_size() > config.vocab_size)
    throw ConfigError(concat(name, " has ", tokenizer.vocab_size(),
                             " token ids, the model's vocab_size is ", config.vocab_size));
  std::vector<int64_t> ends = end_tokens_of(directory);
  if (ends.empty() && config.eos_token_id) {
    ends = config.further_eos_token_ids;
    ends.insert(ends.begin(), *config.eos_token_id);
  }
  std::vector<int32_t> stop_token_ids;
  for (const int64_t id : ends) {
    if (id >= tokenizer.vocab_size())
      throw ConfigError(concat("the model's eos_token_id is ", id, ", expected an id of ", name,
                               ", below ", tokenizer.vocab_size()));
    stop_token_ids.push_back(static_cast<int32_t>(id));
  }
  policy::TokenFrame frame = frame_of(tokenizer, directory);
  return {std::move(tokenizer), std::move(json), std::move(stop_token_ids), std::move(frame)};
}

std::vector<int32_t> LoadedTokenizer::encode_framed(std::string_view text) const {
  std::vector<int32_t> ids = tokenizer.encode(text);
  const auto& [prefix, suffix] = frame;
  const bool has_prefix =
      ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  const bool has_suffix =
      ids.size() >= suffix.size() && std::equal(suffix.rbegin(), suffix.rend(), ids.rbegin());
  if (!has_prefix) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  if (!has_suffix) ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

ModelConfig load_model_config(const Recipe& recipe) {
  const fs::path path = recipe.model.path.empty()
                            ? recipe.resolve(recipe.model.config)
                            : recipe.resolve(recipe.model.path) / "config.json";
  ModelConfig config = ModelConfig::from_json(path.string(), read_file(path));
  if (!recipe.model.mla_form.empty()) config.mla_form = recipe.model.mla_form;
  return config;
}

LoadedTokenizer load_tokenizer(const Recipe& recipe, const TaskData& task,
                               const ModelConfig& config) {
  std::string json, name = "the task's tokenizer";
  const fs::path directory =
      recipe.model.path.empty() ? fs::path() : recipe.resolve(recipe.model.path);
  if (!recipe.model.tokenizer.empty() || !recipe.model.path.empty()) {
    const fs::path path = recipe.model.tokenizer.empty()
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
  LoadedTokenizer loaded = fit_tokenizer(std::move(json), name, config, directory);
  if (loaded.stop_token_ids.empty())
    throw ConfigError(concat("the model's config names no eos_token_id, expected an id of ", name,
                             ", below ", loaded.tokenizer.vocab_size()));
  return loaded;
}

Precision parse_precision(const std::string& name) {
  if (name == "fp8") return Precision::fp8();
  check(name == "f32" || name == "bf16", "dtype is '", name, "', expected bf16, f32 or fp8");
  return name == "f32" ? DType::kF32 : DType::kBF16;
}

Device parse_device(const std::string& name) {
  check(name == "cpu" || name == "cuda", "device is '", name, "', expected cpu or cuda");
  return name == "cpu" ? Device::kCpu : Device::kCuda;
}

std::unique_ptr<Transformer> make_policy(const Recipe& recipe, const policy::Tokenizer& tokenizer,
                                         Masters masters, const ExpertParallel& experts) {
  ModelConfig config = load_model_config(recipe);
  if (!config.num_token_ids) config.num_token_ids = tokenizer.vocab_size();
  return std::make_unique<Transformer>(config, parse_precision(recipe.model.dtype), masters,
                                       parse_device(recipe.device), experts);
}

}  // namespace moerl
