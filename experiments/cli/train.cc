#include <unistd.h>

#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/experiment.h"

namespace moerl::cli {

void add_train(CLI::App& app) {
  struct Options {
    std::string recipe, run_dir;
    std::vector<std::string> overrides;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("train", "Run a recipe: all its stages, from cold start to RL");
  command->add_option("RECIPE", options->recipe, "recipe file (YAML)")->required();
  command->add_option("overrides", options->overrides,
                      "fields of the recipe, as dotted key=value (stages.1.actor.optim.lr=1e-4)");
  command->add_option("--run-dir", options->run_dir,
                      "where the run lives [runs/<name of the recipe>]");
  command->footer(
      "The run directory gets metrics.jsonl, TensorBoard events, samples.sqlite (every completion "
      "with its\n"
      "reward), checkpoints (Hugging Face directories) and report.html. Started again with the "
      "same recipe,\n"
      "an interrupted run goes on from its newest checkpoint and ends with the same bits.\n"
      "Example: moerl train experiments/configs/countdown.yaml --run-dir runs/try seed=2");
  command->callback([options] {
    const Recipe recipe = Recipe::from_file(options->recipe, options->overrides);
    const std::filesystem::path run_dir = options->run_dir.empty()
                                              ? std::filesystem::path("runs") / recipe.name
                                              : std::filesystem::path(options->run_dir);
    Progress progress(::isatty(STDERR_FILENO) == 1);
    Experiment(recipe, run_dir, num_threads(recipe.num_threads), isa_from_environment(), progress)
        .run();
  });
}

}  // namespace moerl::cli
