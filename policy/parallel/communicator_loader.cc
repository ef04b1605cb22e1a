#include "policy/parallel/communicator_loader.h"

#include <string>

#include "common/shared_library.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

SharedLibrary load(const fs::path& directory, const std::string& library) {
  return SharedLibrary(directory / library, library == kMpiLibrary
                                                ? "Debian: libopenmpi-dev"
                                                : "Debian: libnccl-dev of NVIDIA");
}

}  // namespace

std::unique_ptr<Communicator> open_mpi(const fs::path& directory, double timeout_s) {
  const auto open = load(directory, kMpiLibrary).function<Communicator*(double)>("moerl_open_mpi");
  return std::unique_ptr<Communicator>(open(timeout_s));
}

std::unique_ptr<Communicator> open_nccl(const fs::path& directory, Communicator& host,
                                        double timeout_s) {
  const auto open = load(directory, kNcclLibrary)
                        .function<Communicator*(Communicator*, double)>("moerl_open_nccl");
  return std::unique_ptr<Communicator>(open(&host, timeout_s));
}

std::string describe_communicator(const fs::path& directory, const char* library) {
  return load(directory, library).describe();
}

}  // namespace moerl
