#include "policy/parallel/mpi_loader.h"

#include <dlfcn.h>

#include "common/check.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

/// Null, and `error` says why, if it cannot be loaded.
void* load(const fs::path& library, std::string& error) {
  if (!fs::exists(library)) {
    error = concat(library.string(),
                   " is not there: moerl was built without MPI (Debian: ", "libopenmpi-dev)");
    return nullptr;
  }
  // Global: Open MPI's own plug-ins look for its symbols among all that are loaded.
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) error = ::dlerror();
  return handle;
}

}  // namespace

std::unique_ptr<Communicator> open_mpi(const fs::path& directory, double timeout_s) {
  std::string error;
  void* handle = load(directory / kMpiLibrary, error);
  if (handle == nullptr) throw ConfigError("cannot use MPI: " + error);
  // Never closed: the communicator's code lives there, and MPI cannot be started twice.
  const auto open = reinterpret_cast<Communicator* (*)(double)>(::dlsym(handle, "moerl_open_mpi"));
  check_internal(open != nullptr, kMpiLibrary, " has no moerl_open_mpi");
  return std::unique_ptr<Communicator>(open(timeout_s));
}

std::string describe_mpi(const fs::path& directory) {
  std::string error;
  void* handle = load(directory / kMpiLibrary, error);
  if (handle == nullptr) return error;
  ::dlclose(handle);
  return concat("found (", kMpiLibrary, ")");
}

}  // namespace moerl
