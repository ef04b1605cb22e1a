#pragma once
// Training runs over several processes.
#include "policy/parallel/mpi_loader.h"
#include "tests/testing/training_runs.h"

namespace moerl::testing {

/// Whether this build has MPI; where it has not, tests are skipped.
inline bool has_mpi() {
  return std::filesystem::exists(std::filesystem::path(MOERL_BUILD_DIR) / kMpiLibrary);
}

/// mpirun's arguments for `moerl train` on as many ranks.
inline Arguments mpirun_arguments(int num_ranks, const std::filesystem::path& run_directory,
                                  const Arguments& overrides = {}) {
  Arguments arguments = {"mpirun",
                         "-n",
                         std::to_string(num_ranks),
                         "--oversubscribe",
                         "--allow-run-as-root",
                         moerl_program().string()};
  for (const std::string& word : train_arguments(run_directory, overrides))
    arguments.push_back(word);
  return arguments;
}

/// Finds mpirun, and becomes it.
inline constexpr const char* kMpirun = "/usr/bin/env";

/// As train(), on as many ranks.
inline RunResult train_on_ranks(int num_ranks, const std::filesystem::path& run_directory,
                                const Arguments& overrides = {}) {
  const Outcome outcome =
      run_program(kMpirun, mpirun_arguments(num_ranks, run_directory, overrides));
  if (outcome.exit_code != 0) {
    ADD_FAILURE() << num_ranks << " ranks ended with " << outcome.exit_code << ":\n" << outcome.err;
    return {};
  }
  return read_run(run_directory);
}

/// The processes that another one has started.
inline std::vector<pid_t> children_of(pid_t parent) {
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
