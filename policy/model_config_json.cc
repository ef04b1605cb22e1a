// config.json: its spellings to and from ModelConfig.
#include <iterator>

#include "common/check.h"
#include "common/error.h"
#include "common/json.h"
#include "policy/families/family.h"
#include "policy/model_config.h"

namespace moerl {
namespace {

using Json = nlohmann::ordered_json;

/// Drops null values. For the expert counts null means none; elsewhere it stands for an absent key.
void drop_nulls(Json& config) {
  for (const char* key : {"n_routed_experts", "n_shared_experts"})
    if (config.contains(key) && config[key].is_null()) config[key] = 0;
  for (auto item = config.begin(); item != config.end();)
    item = item->is_null() ? config.erase(item) : std::next(item);
}

/// What transformers takes for keys that a DeepSeek-V3 config.json leaves out: those with which a
/// model would load and compute something else, here or in another program.
void fill_in_left_out(Json& config) {
  const Json type = config.value("model_type", Json());
  if (type != "deepseek_v3" && type != "kimi_k2") return;
  // transformers itself leaves these two out; vLLM then takes softmax and no bias.
  if (config.value("scoring_func", Json()).is_null()) config["scoring_func"] = "sigmoid";
  if (config.value("topk_method", Json()).is_null()) config["topk_method"] = "noaux_tc";
  if (!config.contains("n_group")) config["n_group"] = 8;
  if (!config.contains("topk_group")) config["topk_group"] = 4;
  if (!config.contains("routed_scaling_factor")) config["routed_scaling_factor"] = 2.5;
}

/// Renames `from`; of two spellings in one text the one that stays is `to`.
void rename(Json& config, const char* from, const char* to) {
  if (!config.contains(from)) return;
  if (!config.contains(to)) config[to] = config[from];
  config.erase(from);
}

/// The newer spellings as the older ones: rope_parameters as rope_theta and rope_scaling,
/// num_local_experts as num_experts. Settings that name what is computed anyway are dropped.
void translate_spellings(Json& config) {
  rename(config, "rope_parameters", "rope_scaling");
  rename(config, "num_local_experts", "num_experts");
  const auto found = config.find("rope_scaling");
  if (found == config.end() || !found->is_object()) return;
  Json scaling = *found;
  drop_nulls(scaling);
  if (scaling.contains("rope_theta")) {
    config["rope_theta"] = scaling["rope_theta"];
    scaling.erase("rope_theta");
  }
  if (scaling.value("partial_rotary_factor", Json()) == 1) scaling.erase("partial_rotary_factor");
  if (scaling.value("truncate", Json()) == true) scaling.erase("truncate");
  config["rope_scaling"] = scaling;
}

/// Writes a struct as JSON through its field list.
class JsonWriter final : public FieldVisitor {
 public:
  explicit JsonWriter(Json& root) : scopes_{&root} {}
  void field(std::string_view name, bool& value) override { put(name, value); }
  void field(std::string_view name, int64_t& value, Range) override { put(name, value); }
  void field(std::string_view name, double& value, Range) override { put(name, value); }
  void field(std::string_view name, std::string& value) override { put(name, value); }
  void field(std::string_view name, std::vector<std::string>& value) override { put(name, value); }
  void field(std::string_view name, std::vector<int64_t>& value, Range) override {
    put(name, value);
  }
  void field(std::string_view name, std::map<std::string, std::string>& value) override {
    put(name, value);
  }
  void choice(std::string_view name, std::string& value, const std::vector<std::string>&) override {
    put(name, value);
  }
  void field(std::string_view name, std::optional<int64_t>& value, Range) override {
    put(name, value ? Json(*value) : Json());
  }
  void field(std::string_view name, std::optional<double>& value, Range) override {
    put(name, value ? Json(*value) : Json());
  }
  void ignored(std::string_view) override {}
  void require(bool, std::string_view) override {}

 protected:
  bool enter(std::string_view name) override {
    put(name, Json::object());
    scopes_.push_back(&(*scopes_.back())[std::string(name)]);
    return true;
  }
  int64_t enter_list(std::string_view, int64_t) override { return -1; }  // config.json has none
  void enter_item(int64_t) override {}
  void leave() override { scopes_.pop_back(); }

 private:
  template <typename T>
  void put(std::string_view name, const T& value) {
    (*scopes_.back())[std::string(name)] = value;
  }
  std::vector<Json*> scopes_;
};

}  // namespace

ModelConfig ModelConfig::of_family(const std::string& model_type) {
  ModelConfig config;
  config.model_type = model_type;
  model_family(model_type).set_up(config);
  return config;
}

ModelConfig ModelConfig::from_json(const std::string& name, const std::string& text) {
  try {
    check_json(name, text);
  } catch (const IoError& error) {
    throw ConfigError(error.what());
  }
  Json parsed = parse_json<Json>(text);
  if (!parsed.is_object()) throw ConfigError(concat(name, ": expected a JSON object"));
  fill_in_left_out(parsed);
  drop_nulls(parsed);
  translate_spellings(parsed);
  const Json type = parsed.value("model_type", Json());
  try {  // before its fields: those of another family would all be unknown
    if (type.is_string()) model_family(type.get<std::string>());
  } catch (const ConfigError& error) {
    throw ConfigError(concat(name, ":\n  ", error.what()));
  }
  ModelConfig config;
  ConfigSource(name, parsed.dump()).read(config);
  if (config.vocab_size == 0) throw ConfigError(concat(name, ":\n  vocab_size is missing"));
  return config;
}

std::string with_left_out_keys(const std::string& config_json) {
  Json config = parse_json<Json>(config_json);
  fill_in_left_out(config);
  return config.dump(2) + "\n";
}

std::string ModelConfig::to_json(DType dtype) const {
  Json j;
  j["architectures"] = {model_family(model_type).architecture};
  j["torch_dtype"] = dtype == DType::kBF16 ? "bfloat16" : "float32";
  ModelConfig copy = *this;
  JsonWriter writer(j);
  visit_fields(writer, copy);
  j["use_cache"] = true;
  j.erase("num_token_ids");  // follows from the tokenizer
  if (rope_scaling.type.empty())
    j["rope_scaling"] = nullptr;
  else
    drop_nulls(j["rope_scaling"]);
  Json& eos = j["eos_token_id"];
  if (eos.size() == 1) eos = Json(eos[0]);
  if (eos.empty()) eos = nullptr;
  return j.dump(2) + "\n";
}

}  // namespace moerl
