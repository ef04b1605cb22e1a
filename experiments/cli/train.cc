#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "common/check.h"
#include "common/shared_library.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/experiment.h"
#include "kernels/cuda/backend.h"
#include "policy/parallel/communicator_loader.h"
#include "policy/parallel/device_of_rank.h"

namespace moerl::cli {
namespace {

/// Gives each rank of a machine a CUDA device of its own, before anything has asked the driver, and
/// connects them.
void connect_devices(Communicator& ranks, double timeout_s) {
  const std::string device =
      device_of_rank(std::getenv("CUDA_VISIBLE_DEVICES"), rank_on_machine(ranks));
  ::setenv("CUDA_VISIBLE_DEVICES", device.c_str(), 1);
  if (!kernels::cuda_is_available())
    throw ConfigError(concat("rank ", ranks.rank(), " takes CUDA device ", device,
                             " of its machine, which does not answer; expected one for each rank"));
  if (kernels::device_memory().is_emulated) return;
  if (std::filesystem::exists(program_directory() / kNcclLibrary))
    ranks.use_on_cuda(open_nccl(program_directory(), ranks, timeout_s));
  else if (ranks.rank() == 0)
    std::fprintf(stderr, "moerl: built without NCCL: the ranks exchange by way of main memory\n");
}

/// The processes that the launcher has started with this one; null: it is alone.
std::unique_ptr<Communicator> join_ranks(const Recipe& recipe) {
  const ParallelSettings& settings = recipe.parallel;
  const int launched = launched_ranks();
  DataParallel::check_ranks(launched, settings.data_parallel_size);
  ExpertParallel::check_ranks(launched, settings.expert_parallel_size);
  if (launched == 1) return nullptr;
  std::unique_ptr<Communicator> ranks = open_mpi(program_directory(), settings.timeout_s);
  if (ranks->size() != launched)
    throw ConfigError(concat("the launcher started ", launched, " processes and MPI finds ",
                             ranks->size(), ": they are of different makers"));
  if (recipe.device == "cuda") connect_devices(*ranks, settings.timeout_s);
  return ranks;
}

}  // namespace

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
      "Over several processes: mpirun -n 4 moerl train RECIPE parallel.data_parallel_size=4\n"
      "Example: moerl train experiments/configs/countdown.yaml --run-dir runs/try seed=2");
  command->callback([options] {
    const Recipe recipe = Recipe::from_file(options->recipe, options->overrides);
    const std::filesystem::path run_dir = options->run_dir.empty()
                                              ? std::filesystem::path("runs") / recipe.name
                                              : std::filesystem::path(options->run_dir);
    const std::unique_ptr<Communicator> ranks = join_ranks(recipe);
    Communicator& comm = ranks ? *ranks : single_process();
    Progress progress(::isatty(STDERR_FILENO) == 1, comm.rank() > 0);
    try {
      Experiment(recipe, run_dir, num_threads(recipe.num_threads), isa_from_environment(), progress,
                 comm)
          .run();
    } catch (const std::exception& error) {
      if (comm.size() == 1) throw;
      comm.abort(error.what());
      throw;
    }
  });
}

}  // namespace moerl::cli
