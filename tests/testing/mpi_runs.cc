#include "tests/testing/mpi_runs.h"

#include <algorithm>
#include <fstream>

#include "policy/parallel/communicator_loader.h"
#include "testing/paths.h"

namespace moerl::testing {

bool has_mpi() {
  return std::filesystem::exists(std::filesystem::path(MOERL_BUILD_DIR) / kMpiLibrary);
}

Arguments mpirun_arguments(int num_ranks, const std::filesystem::path& run_directory,
                           const Arguments& overrides, const std::filesystem::path& program) {
  Arguments arguments = {
      "mpirun",        "-n", std::to_string(num_ranks), "--oversubscribe", "--allow-run-as-root",
      program.string()};
  for (const std::string& word : train_arguments(run_directory, overrides))
    arguments.push_back(word);
  return arguments;
}

RunResult train_on_ranks(int num_ranks, const std::filesystem::path& run_directory,
                         const Arguments& overrides, const std::filesystem::path& program) {
  const Outcome outcome =
      run_program(kMpirun, mpirun_arguments(num_ranks, run_directory, overrides, program));
  if (outcome.exit_code != 0) {
    ADD_FAILURE() << num_ranks << " ranks ended with " << outcome.exit_code << ":\n" << outcome.err;
    return {};
  }
  return read_run(run_directory);
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream in(entry.path() / "status");
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("PPid:") && std::stol(line.substr(5)) == parent)
        children.push_back(static_cast<pid_t>(std::stol(name)));
  }
  std::sort(children.begin(), children.end());
  return children;
}

}  // namespace moerl::testing
