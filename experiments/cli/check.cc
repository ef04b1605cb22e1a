#include "common/check.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>

#include "common/file.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/memory_budget.h"
#include "experiments/model_plan.h"
#include "experiments/recipe.h"
#include "policy/checkpoint_reader.h"
#include "policy/parallel/data_parallel.h"
#include "policy/weights_io.h"

namespace moerl::cli {
namespace {

namespace fs = std::filesystem;

/// The config.json that the argument names, as a file or by its directory; empty for a recipe.
fs::path config_of_model(const std::string& argument) {
  if (fs::is_directory(argument)) return fs::path(argument) / "config.json";
  return argument.ends_with(".json") ? fs::path(argument) : fs::path();
}

/// Says what weights lie beside a config.json, if there are any, and whether they fit it.
void describe_weights(const ModelConfig& model, const fs::path& directory) {
  if (!fs::exists(directory / "model.safetensors") &&
      !fs::exists(directory / "model.safetensors.index.json"))
    return;
  const policy::CheckpointReader reader(directory);
  int64_t bytes = 0;
  std::map<std::string_view, int64_t> types;
  for (const std::string& name : reader.names()) {
    bytes += static_cast<int64_t>(reader.tensor(name).data.size());
    ++types[policy::dtype_name(reader.tensor(name).dtype)];
  }
  std::string counts;
  for (const auto& [type, count] : types) counts += concat(", ", count, " ", type);
  std::printf("weights: %zu tensors, %.3f GiB%s\n", reader.names().size(),
              static_cast<double>(bytes) / (1 << 30), counts.c_str());
  check_weights(model, directory);
}

}  // namespace

void add_check(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    std::optional<double> memory_gb;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "check",
      "Resolve a recipe or a model, report every error at once and the memory it needs; run "
      "nothing");
  command
      ->add_option("RECIPE", options->recipe,
                   "recipe file (YAML), or a model: its config.json or its directory")
      ->required();
  command->add_option("overrides", options->overrides, "fields of the recipe, as dotted key=value");
  command
      ->add_option("--memory-gb", options->memory_gb,
                   "memory of the machine, or with device=cuda of the GPU, that the run is meant "
                   "for, in GiB [of this one]")
      ->check(CLI::PositiveNumber);
  command->callback([options] {
    std::optional<int64_t> available;
    if (options->memory_gb)
      available = static_cast<int64_t>(*options->memory_gb * static_cast<double>(1 << 30));
    if (const fs::path config = config_of_model(options->recipe); !config.empty()) {
      check(options->overrides.empty(), "check: a model has no fields to override, got '",
            options->overrides.empty() ? "" : options->overrides[0], "'");
      const ModelConfig model = ModelConfig::from_json(config.string(), read_file(config));
      std::printf("%s", describe_plan(model, available.value_or(machine_memory())).c_str());
      describe_weights(model, config.parent_path());
      return;
    }
    const Recipe recipe = Recipe::from_file(options->recipe, options->overrides);
    CheckedRecipe checked = check_recipe(recipe, available);
    try {
      const int launched = launched_ranks();
      DataParallel::check_ranks(launched, recipe.parallel.data_parallel_size);
      // Alone, it is asked about a run that is still to be launched.
      if (launched > 1) ExpertParallel::check_ranks(launched, recipe.parallel.expert_parallel_size);
    } catch (const ConfigError& error) {
      checked.problems.emplace_back(error.what());
    }
    std::printf("%s\n", recipe.to_yaml().c_str());
    std::printf("%s", checked.summary.c_str());
    if (!checked.problems.empty()) {
      std::string text = options->recipe + ":";
      for (const std::string& problem : checked.problems) text += "\n  " + problem;
      throw ConfigError(text);
    }
  });
}

}  // namespace moerl::cli
