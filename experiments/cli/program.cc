#include "experiments/cli/program.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "common/shared_library.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/memory_budget.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "kernels/gemm/dense_products.h"
#include "kernels/memory_arena.h"

namespace moerl::cli {

int run_program(int argc, char** argv) {
  CLI::App app{
      "moerl turns a DeepSeek-V3-architecture base model into a reasoner by reinforcement "
      "learning.\n"
      "Rollout workers sample groups of chains of thought, rule-based verifiers score them, and "
      "GRPO\n"
      "updates the policy; the sampler and the trainer are one forward pass, bit for bit.\n",
      "moerl"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "moerl " MOERL_VERSION);
  app.get_formatter()->column_width(34);
  app.footer(
      "Start here:  moerl train experiments/configs/countdown.yaml\n"
      "Each command explains itself: moerl COMMAND --help\n"
      "MOERL_ISA=portable|avx2|avx512|amx forces a CPU instruction level; results are the same "
      "bits.\n"
      "MOERL_CUBLASLT=0 keeps the products of a GPU from cuBLASLt; results are the same bits.");
  add_train(app);
  add_check(app);
  add_export(app);
  add_judge(app);
  add_score(app);
  add_sample(app);
  add_tokenize(app);
  add_eval(app);
  add_data(app);
  add_serve(app);
  add_doctor(app);
  add_bench(app);
  add_plugin_host(app);
  try {
    if (cublaslt_is_wanted())
      kernels::dense_products().use([] { return kernels::open_cublaslt(program_directory()); });
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const OutOfDeviceMemory& error) {
    std::fprintf(stderr, "moerl: error: %s; %s\n", error.what(), kMemoryAdvice);
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moerl: error: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace moerl::cli
