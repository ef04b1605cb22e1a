#pragma once
// Training runs over several processes.
#include "tests/testing/training_runs.h"

namespace moerl::testing {

/// Whether this build has MPI; where it has not, tests are skipped.
bool has_mpi();

/// mpirun's arguments for `PROGRAM train` on as many ranks.
Arguments mpirun_arguments(int num_ranks, const std::filesystem::path& run_directory,
                           const Arguments& overrides = {},
                           const std::filesystem::path& program = moerl_program());

/// Finds mpirun, and becomes it.
inline constexpr const char* kMpirun = "/usr/bin/env";

/// As train(), on as many ranks.
RunResult train_on_ranks(int num_ranks, const std::filesystem::path& run_directory,
                         const Arguments& overrides = {},
                         const std::filesystem::path& program = moerl_program());

/// The processes that another one has started.
std::vector<pid_t> children_of(pid_t parent);

}  // namespace moerl::testing
