#include "policy/parallel/communicator_loader.h"

#include <dlfcn.h>

#include "common/check.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

/// Null, and `error` says why, if it cannot be loaded.
void* load(const fs::path& library, std::string& error) {
  if (!fs::exists(library)) {
    error =
        concat(library.string(), " is not there: moerl was built without it (Debian: ",
               library.filename() == kMpiLibrary ? "libopenmpi-dev" : "libnccl-dev of NVIDIA", ")");
    return nullptr;
  }
  // Global: Open MPI's own plug-ins look for its symbols among all that are loaded.
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) error = ::dlerror();
  return handle;
}

/// A function of one of the libraries. Those are never closed: the communicator's code lives there,
/// and MPI cannot be started twice.
template <typename Function>
Function* function_of(const fs::path& directory, const char* library, const char* name) {
  std::string error;
  void* handle = load(directory / library, error);
  if (handle == nullptr) throw ConfigError(concat("cannot use ", library, ": ", error));
  auto* function = reinterpret_cast<Function*>(::dlsym(handle, name));
  check_internal(function != nullptr, library, " has no ", name);
  return function;
}

}  // namespace

std::unique_ptr<Communicator> open_mpi(const fs::path& directory, double timeout_s) {
  const auto open = function_of<Communicator*(double)>(directory, kMpiLibrary, "moerl_open_mpi");
  return std::unique_ptr<Communicator>(open(timeout_s));
}

std::unique_ptr<Communicator> open_nccl(const fs::path& directory, Communicator& host,
                                        double timeout_s) {
  const auto open =
      function_of<Communicator*(Communicator*, double)>(directory, kNcclLibrary, "moerl_open_nccl");
  return std::unique_ptr<Communicator>(open(&host, timeout_s));
}

std::string describe_communicator(const fs::path& directory, const char* library) {
  std::string error;
  void* handle = load(directory / library, error);
  if (handle == nullptr) return error;
  ::dlclose(handle);
  return concat("found (", library, ")");
}

}  // namespace moerl
