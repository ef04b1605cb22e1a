#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "experiments/cli/commands.h"

int main(int argc, char** argv) {
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
      "bits.");
  moerl::cli::add_train(app);
  moerl::cli::add_check(app);
  moerl::cli::add_export(app);
  moerl::cli::add_judge(app);
  moerl::cli::add_score(app);
  moerl::cli::add_sample(app);
  moerl::cli::add_tokenize(app);
  moerl::cli::add_eval(app);
  moerl::cli::add_data(app);
  moerl::cli::add_serve(app);
  moerl::cli::add_doctor(app);
  moerl::cli::add_bench(app);
  moerl::cli::add_plugin_host(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moerl: error: %s\n", error.what());
    return 1;
  }
  return 0;
}
