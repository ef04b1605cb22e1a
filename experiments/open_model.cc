#include "experiments/open_model.h"

#include <algorithm>

#include "common/check.h"
#include "common/file.h"
#include "experiments/run_directory.h"
#include "policy/weights_io.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResolvedRecipe = "config.resolved.yaml";
constexpr const char* kExpected =
    "; MODEL is a Hugging Face directory (config.json and safetensors), a run directory of moerl "
    "train, or one of its checkpoints";

/// The first file of the directory with one of the endings, or "".
std::string first_file(const fs::path& directory, const std::vector<std::string>& endings) {
  std::string first;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    for (const std::string& ending : endings)
      if (name.ends_with(ending) && (first.empty() || name < first)) first = name;
  }
  return first;
}

void check_has_weights(const fs::path& directory) {
  if (!first_file(directory, {".safetensors", ".safetensors.index.json"}).empty()) return;
  const std::string other = first_file(directory, {".bin", ".pt", ".pth", ".gguf"});
  throw IoError(
      concat(directory.string(), " has config.json but no *.safetensors",
             other.empty() ? "" : concat(" (it has ", other, ", which is not read: convert it)"),
             kExpected));
}

ModelPlace newest_of_run(const fs::path& run) {
  const std::vector<fs::path> checkpoints = RunDirectory::checkpoints(run);
  if (checkpoints.empty())
    throw IoError(concat(run.string(), " is a run without a checkpoint yet (",
                         (run / "checkpoints").string(), " holds no step-*)"));
  return {.directory = checkpoints.back(), .run = run};
}

}  // namespace

ModelPlace find_model(const fs::path& argument) {
  const std::string name = argument.string();
  if (!fs::exists(argument)) throw IoError(concat(name, " does not exist", kExpected));
  if (!fs::is_directory(argument))
    throw IoError(concat(name, " is a file",
                         argument.extension() == ".yaml" ? ", perhaps a recipe" : "", kExpected));
  if (fs::exists(argument / "config.json")) {
    check_has_weights(argument);
    const fs::path run = fs::canonical(argument).parent_path().parent_path();
    const bool in_run = fs::exists(argument / "state.json") && fs::exists(run / kResolvedRecipe);
    return {.directory = argument, .run = in_run ? run : fs::path()};
  }
  if (fs::exists(argument / kResolvedRecipe)) return newest_of_run(argument);
  if (!RunDirectory::checkpoints(argument).empty())
    throw IoError(concat(name, " has checkpoints but no ", kResolvedRecipe, kExpected));
  const std::string weights =
      first_file(argument, {".safetensors", ".safetensors.index.json", ".gguf", ".bin"});
  throw IoError(concat(name, " has no config.json", weights.empty() ? "" : " beside " + weights,
                       " and no ", kResolvedRecipe, kExpected));
}

std::optional<Recipe> recipe_of(const ModelPlace& place) {
  if (place.run.empty()) return std::nullopt;
  return Recipe::from_file(place.run / kResolvedRecipe, {});
}

const LoadedTokenizer& OpenedModel::need_tokenizer() const {
  if (!tokenizer)
    throw ConfigError(concat(place.directory.string(), " has no tokenizer.json, which text needs"));
  return *tokenizer;
}

OpenedModel open_model(ExecContext& ctx, const fs::path& argument, const OpenOptions& options) {
  OpenedModel opened{.place = find_model(argument), .transformer = nullptr, .tokenizer = {}};
  const fs::path& directory = opened.place.directory;
  const std::optional<Recipe> recipe = recipe_of(opened.place);
  ModelConfig config = read_model_config(directory);
  const fs::path tokenizer_path = directory / "tokenizer.json";
  if (fs::exists(tokenizer_path)) {
    opened.tokenizer =
        fit_tokenizer(read_file(tokenizer_path), tokenizer_path.string(), config, directory);
    if (!config.num_token_ids) config.num_token_ids = opened.tokenizer->tokenizer.vocab_size();
  }
  const std::string chosen = !options.dtype.empty() ? options.dtype
                             : recipe               ? recipe->model.dtype
                                                    : "bf16";
  opened.transformer =
      std::make_unique<Transformer>(config, parse_precision(chosen), options.masters, ctx.device());
  load_weights(ctx, *opened.transformer, directory);
  return opened;
}

policy::ChatTemplate choose_chat_template(const ModelPlace& place, const std::string& name) {
  if (!name.empty()) return policy::ChatTemplate::named(name);
  if (const std::optional<Recipe> recipe = recipe_of(place)) {
    if (recipe->task.name != "jsonl") return policy::ChatTemplate::named("none");
    return policy::ChatTemplate::named(recipe->task.chat_template, recipe->task.bos_token);
  }
  return policy::ChatTemplate::from_directory(place.directory);
}

std::vector<int32_t> stop_tokens_of(const OpenedModel& model, const policy::ChatTemplate& chat) {
  const LoadedTokenizer& tokenizer = model.need_tokenizer();
  std::vector<int32_t> stops = tokenizer.stop_token_ids;
  if (!chat.turn_end().empty())
    if (const auto id = tokenizer.tokenizer.token_id(chat.turn_end()))
      if (std::find(stops.begin(), stops.end(), *id) == stops.end()) stops.push_back(*id);
  if (stops.empty())
    throw ConfigError(concat(model.place.directory.string(),
                             ": neither generation_config.json nor config.json has an "
                             "eos_token_id, so no token would end a completion"));
  return stops;
}

}  // namespace moerl
