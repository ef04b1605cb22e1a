#include "reward/judge.h"

#include <cstdio>
#include <fstream>
#include <iostream>

#include "common/check.h"
#include "common/error.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/cli/verifier_options.h"
#include "experiments/reward_settings.h"

namespace moerl::cli {

void add_judge(CLI::App& app) {
  struct Options {
    std::string verifier, file;
    std::vector<std::string> options;
    int64_t workers = 0;
    double timeout_s = 10;
    std::string label, report;
    double tolerance = 1e-6, max_unscorable = 0.05;
    RewardPlugin plugin;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("judge", "Score recorded completions offline");
  command
      ->add_option("VERIFIER", options->verifier, "name of a verifier, such as countdown or gsm8k")
      ->required();
  command
      ->add_option(
          "FILE", options->file,
          "JSON lines {\"response\", \"ground_truth\", \"extra_info\"}; - for standard input")
      ->required();
  command
      ->add_option("-o,--option,--options", options->options,
                   "option of the verifier, key=value; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--workers", options->workers, "threads [all cores]")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--timeout-s", options->timeout_s, "deadline of one sample [10]")
      ->check(CLI::PositiveNumber);
  command->add_option("--label", options->label,
                      "key of a recorded label: true/false is held against the status, a number "
                      "against the score");
  command->add_option("--tolerance", options->tolerance, "of a number's comparison [1e-6]")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--max-unscorable", options->max_unscorable,
                   "share of rows that may have no score [0.05]")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--report", options->report,
                      "file for the table of disagreements [standard error]");
  auto* plugin = command->add_option_group("plug-in", "VERIFIER is one of your own");
  plugin->add_option("--python", options->plugin.python, "FILE.py[:FUNCTION]");
  plugin->add_option("--library", options->plugin.library, "shared library");
  plugin->add_option("--command", options->plugin.command, "program and its arguments");
  plugin->require_option(0, 1);
  std::string footer =
      "Each row is printed back, in order, with score, status, extracted and the "
      "parts.\nExit status: 0 done; 1 an error; 2 labels disagree (with --label); 3 too many rows "
      "have no score (--max-unscorable).\nVerifiers:";
  for (const auto& verifier : reward::make_verifier_registry()->list())
    footer += concat("\n  ", verifier->name(), ": ", verifier->description());
  command->footer(footer);
  command->callback([options] {
    const reward::JudgeConfig config = {.verifier = options->verifier,
                                        .options = parse_verifier_options(options->options),
                                        .num_threads = num_threads(options->workers),
                                        .deadline_ms = static_cast<int>(options->timeout_s * 1000),
                                        .label = options->label,
                                        .label_tolerance = options->tolerance};
    std::vector<RewardPlugin> plugins;
    const RewardPlugin& own = options->plugin;
    if (!(own.python + own.library + own.command).empty()) {
      plugins.push_back(own);
      plugins.back().name = options->verifier;
    }
    const std::shared_ptr<reward::VerifierRegistry> registry = make_registry(plugins, "");
    std::ofstream report_file;
    if (!options->report.empty()) {
      report_file.open(options->report);
      if (!report_file) throw IoError(concat(options->report, ": cannot be written"));
    }
    std::ostream& report = options->report.empty() ? std::cerr : report_file;
    const reward::JudgeSummary summary =
        options->file == "-"
            ? reward::judge(registry, config, std::cin, "standard input", std::cout, &report)
            : reward::judge_file(registry, config, options->file, std::cout, &report);
    std::fprintf(stderr, "%s\n", reward::to_string(summary).c_str());
    if (!options->report.empty() && !report_file.flush())
      throw IoError(concat(options->report, ": cannot be written"));
    double unscorable = 0;
    for (const auto& [status, count] : summary.num_by_status)
      unscorable += reward::is_unscorable(status) ? static_cast<double>(count) : 0;
    if (unscorable > options->max_unscorable * static_cast<double>(summary.num_rows))
      throw CLI::RuntimeError(3);
    if (summary.num_disagreeing > 0) throw CLI::RuntimeError(2);
  });
}

}  // namespace moerl::cli
