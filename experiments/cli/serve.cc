#include <cstdio>

#include "common/check.h"
#include "common/rpc/server.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/cli/serve_openai.h"
#include "experiments/fleet.h"
#include "experiments/model_source.h"
#include "experiments/reward_settings.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"
#include "rollout/rollout_server.h"

namespace moerl::cli {
namespace {

void add_serve_reward(CLI::App& serve) {
  struct Options {
    std::string address = "0.0.0.0:50052";
    int64_t workers = 0;
    double timeout_s = 10;
    RewardPlugin plugin;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = serve.add_subcommand("reward", "Score completions over gRPC (reward.proto)");
  command->add_option("--address", options->address,
                      "host:port to listen on; port 0 picks one [0.0.0.0:50052]");
  command->add_option("--workers", options->workers, "threads [all cores]")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--timeout-s", options->timeout_s, "deadline of one sample [10]")
      ->check(CLI::PositiveNumber);
  auto* plugin = command->add_option_group("plug-in",
                                           "a verifier of your own; see "
                                           "reward/plugins/README.md");
  plugin->add_option("--python", options->plugin.python,
                     "FILE.py[:FUNCTION] with verl's compute_score or a TRL reward function");
  plugin->add_option("--library", options->plugin.library,
                     "shared library with the functions of moerl_reward.h");
  plugin->add_option("--command", options->plugin.command,
                     "program that answers JSON lines, and its arguments, separated by spaces");
  plugin->require_option(0, 1);
  command->add_option("--name", options->plugin.name,
                      "what recipes call the plug-in [name of its file]");
  command->callback([options] {
    SignalWaiter signals;
    RewardPlugin& own = options->plugin;
    const std::string file = !own.python.empty()    ? own.python.substr(0, own.python.rfind(':'))
                             : !own.library.empty() ? own.library
                                                    : own.command.substr(0, own.command.find(' '));
    if (own.name.empty()) own.name = std::filesystem::path(file).stem();
    std::vector<RewardPlugin> plugins;
    if (!file.empty()) plugins.push_back(own);
    reward::Scorer scorer(make_registry(plugins, ""),
                          {.num_threads = num_threads(options->workers),
                           .deadline_ms = static_cast<int>(options->timeout_s * 1000)});
    reward::RewardServiceImpl service(scorer);
    rpc::Server server({&service}, options->address);
    std::printf("reward service on port %d%s\n", server.port(),
                file.empty() ? "" : concat(" with verifier '", own.name, "'").c_str());
    std::fflush(stdout);
    signals.wait();
    server.shutdown();
  });
}

void add_serve_rollout(CLI::App& serve) {
  struct Options {
    std::string recipe, address = "0.0.0.0:50051";
    std::vector<std::string> overrides;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      serve.add_subcommand("rollout", "Sample completions over gRPC (rollout.proto)");
  command
      ->add_option("RECIPE", options->recipe,
                   "recipe of the run: names the model; the trainer sends the weights")
      ->required();
  command->add_option("overrides", options->overrides, "fields of the recipe, as dotted key=value");
  command->add_option("--address", options->address,
                      "host:port to listen on; port 0 picks one [0.0.0.0:50051]");
  command->callback([options] {
    SignalWaiter signals;
    const Recipe recipe = Recipe::from_file(options->recipe, options->overrides);
    ExecContext ctx = make_context(recipe.num_threads, recipe.device);
    const TaskData task =
        load_task(recipe.task, recipe.directory, static_cast<uint64_t>(recipe.seed));
    const LoadedTokenizer tokenizer = load_tokenizer(recipe, task, load_model_config(recipe));
    const std::unique_ptr<Transformer> policy =
        make_policy(recipe, tokenizer.tokenizer, Masters::kDropped);
    RolloutServer server(*policy,
                         {.engine = engine_config(recipe.rollout),
                          .address = options->address,
                          .accepts_weights = true,
                          .policy_version = kNoWeights},
                         ctx);
    std::printf("rollout service on port %d (%s)\n", server.port(),
                policy->numeric_family().c_str());
    std::fflush(stdout);
    signals.wait();
    server.shutdown(1000);
  });
}

}  // namespace

void add_serve(CLI::App& app) {
  CLI::App* serve =
      app.add_subcommand("serve", "Run a service: OpenAI's API, or one of a run on other machines");
  serve->require_subcommand(1);
  add_serve_openai(*serve);
  add_serve_rollout(*serve);
  add_serve_reward(*serve);
  serve->footer(
      "rollout and reward: the recipe of the training run names the addresses: rollout.addresses, "
      "reward.addresses.");
}

}  // namespace moerl::cli
