#include "reward/judge.h"

#include <cstdio>
#include <iostream>

#include "common/check.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"

namespace moerl::cli {
namespace {

reward::Options parse_options(const std::vector<std::string>& pairs) {
  reward::Options options;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    check(equals != std::string::npos && equals > 0, "option '", pair,
          "' is not of the form key=value");
    options[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return options;
}

}  // namespace

void add_judge(CLI::App& app) {
  struct Options {
    std::string verifier, file;
    std::vector<std::string> options;
    int64_t workers = 0;
    double timeout_s = 10;
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
  command->add_option("-o,--option", options->options,
                      "option of the verifier, key=value; may be repeated");
  command->add_option("--workers", options->workers, "threads [all cores]")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--timeout-s", options->timeout_s, "deadline of one sample [10]")
      ->check(CLI::PositiveNumber);
  std::string footer =
      "Each row is printed back, in order, with score, status, extracted and the "
      "parts.\nVerifiers:";
  for (const auto& verifier : reward::make_verifier_registry()->list())
    footer += concat("\n  ", verifier->name(), ": ", verifier->description());
  command->footer(footer);
  command->callback([options] {
    const reward::JudgeConfig config = {.verifier = options->verifier,
                                        .options = parse_options(options->options),
                                        .num_threads = num_threads(options->workers),
                                        .deadline_ms = static_cast<int>(options->timeout_s * 1000)};
    const reward::JudgeSummary summary =
        options->file == "-" ? reward::judge(reward::make_verifier_registry(), config, std::cin,
                                             "standard input", std::cout)
                             : reward::judge_file(reward::make_verifier_registry(), config,
                                                  options->file, std::cout);
    std::fprintf(stderr, "%s\n", reward::to_string(summary).c_str());
  });
}

}  // namespace moerl::cli
