#include "common/shared_library.h"

#include <dlfcn.h>

#include "common/check.h"

namespace moerl {

std::filesystem::path program_directory() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

SharedLibrary::SharedLibrary(const std::filesystem::path& file, const std::string& package)
    : name_(file.filename()) {
  if (!std::filesystem::exists(file)) {
    error_ = concat(file.string(), " is not there: moerl was built without it (", package, ")");
    return;
  }
  // Global: Open MPI's own plug-ins look for its symbols among all that are loaded.
  handle_ = ::dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle_ == nullptr) error_ = ::dlerror();
}

std::string SharedLibrary::describe() const {
  return is_loaded() ? concat("found (", name_, ")") : error_;
}

void* SharedLibrary::symbol(const char* name) const {
  if (!is_loaded()) throw ConfigError(concat("cannot use ", name_, ": ", error_));
  void* symbol = ::dlsym(handle_, name);
  check_internal(symbol != nullptr, name_, " has no ", name);
  return symbol;
}

}  // namespace moerl
