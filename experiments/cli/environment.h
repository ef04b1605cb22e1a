#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>

#include "kernels/exec_context.h"

namespace moerl::cli {

/// The instruction level that MOERL_ISA names, else the machine's highest.
/// @throws std::invalid_argument for an unknown name or one that the machine lacks.
Isa isa_from_environment();

/// Folder of the data cache: MOERL_DATA, else moerl/data under XDG_CACHE_HOME or ~/.cache.
/// @throws ConfigError if none of the variables nor HOME is set.
std::filesystem::path data_folder();

/// Whether MOERL_CUBLASLT lets cuBLASLt compute what it may (kernels/gemm/dense_products.h): not so
/// if it is 0. @throws ConfigError for a value other than 0 and 1.
bool cublaslt_is_wanted();

/// Processes that mpirun (Open MPI, MPICH) or srun has started this one with, itself included.
int launched_ranks();

/// `requested` threads, or as many as this process may use cores if it is 0.
int num_threads(int64_t requested);

/// @param device  "cpu" or "cuda". @throws std::runtime_error if it cannot be used.
ExecContext make_context(int64_t threads, const std::string& device);
/// --threads and --device of a command that computes.
void add_compute_options(CLI::App& command, int64_t& threads, std::string& device);

/// Turns SIGINT and SIGTERM into something to wait for. To be made before any thread is started.
class SignalWaiter {
 public:
  SignalWaiter();
  /// Blocks until a signal comes.
  void wait();
};

}  // namespace moerl::cli
