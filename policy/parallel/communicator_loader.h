#pragma once
#include <filesystem>
#include <memory>

#include "policy/parallel/communicator.h"

namespace moerl {

/// File names of the libraries that are linked with MPI and with NCCL; they lie beside the program.
/// The program itself is not, so that it runs on machines without them.
inline constexpr const char* kMpiLibrary = "libmoerl_mpi.so";
inline constexpr const char* kNcclLibrary = "libmoerl_nccl.so";

/// Joins the processes that mpirun or srun started together with this one. Once in a process.
/// @param directory  where the library lies.
/// @param timeout_s  after which a rank that does not answer is given up.
/// @throws ConfigError saying what is missing: the library (a build without MPI) or MPI itself.
std::unique_ptr<Communicator> open_mpi(const std::filesystem::path& directory, double timeout_s);

/// Connects the CUDA devices of the ranks of `host`, which all call it; each uses the first device
/// that its process sees, another one for each rank.
/// @throws ConfigError as open_mpi. @throws CommunicationError saying what NCCL says.
std::unique_ptr<Communicator> open_nccl(const std::filesystem::path& directory, Communicator& host,
                                        double timeout_s);

/// Whether the library could be loaded, or why not.
std::string describe_communicator(const std::filesystem::path& directory, const char* library);

}  // namespace moerl
