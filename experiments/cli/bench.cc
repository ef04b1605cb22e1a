#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "common/check.h"
#include "experiments/cli/commands.h"

namespace moerl::cli {

void add_bench(CLI::App& app) {
  auto arguments = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure kernels, sampling and training against limits measured in the same run");
  command->add_option(
      "arguments", *arguments,
      "passed on to Google Benchmark, after --, such as -- --benchmark_filter=linear");
  command->callback([arguments] {
    const std::filesystem::path program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "moerl_bench";
    if (!std::filesystem::exists(program))
      throw IoError(concat(program.string(), " is missing; ./moerl bench builds it"));
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (std::string& argument : *arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    throw IoError(concat("cannot run ", program.string(), ": ", std::strerror(errno)));
  });
}

}  // namespace moerl::cli
