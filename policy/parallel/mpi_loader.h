#pragma once
#include <filesystem>
#include <memory>

#include "policy/parallel/communicator.h"

namespace moerl {

/// File name of the library that is linked with MPI; it lies beside the program. The program itself
/// is not, so that it runs on machines without MPI.
inline constexpr const char* kMpiLibrary = "libmoerl_mpi.so";

/// Joins the processes that mpirun or srun started together with this one. Once in a process.
/// @param directory  where the library lies.
/// @param timeout_s  after which a rank that does not answer is given up.
/// @throws ConfigError saying what is missing: the library (a build without MPI) or MPI itself.
std::unique_ptr<Communicator> open_mpi(const std::filesystem::path& directory, double timeout_s);

/// Whether open_mpi could load the library: its path, or why not.
std::string describe_mpi(const std::filesystem::path& directory);

}  // namespace moerl
