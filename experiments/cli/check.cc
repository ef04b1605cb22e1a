#include <cstdio>

#include "experiments/cli/commands.h"
#include "experiments/memory_budget.h"
#include "experiments/recipe.h"

namespace moerl::cli {

void add_check(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "check", "Resolve a recipe, report every error at once and the memory it needs; run nothing");
  command->add_option("RECIPE", options->recipe, "recipe file (YAML)")->required();
  command->add_option("overrides", options->overrides, "fields of the recipe, as dotted key=value");
  command->callback([options] {
    const Recipe recipe = Recipe::from_file(options->recipe, options->overrides);
    const CheckedRecipe checked = check_recipe(recipe);
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
