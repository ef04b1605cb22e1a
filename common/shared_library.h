#pragma once
#include <filesystem>
#include <string>

namespace moerl {

/// Where the program and the libraries that it loads lie.
std::filesystem::path program_directory();

/// A part of moerl that is linked with what a machine may lack, and so is loaded by the program
/// when it is needed. It is never closed: the code of the objects that it made lies there.
class SharedLibrary {
 public:
  /// Loads it, or notes why it cannot be loaded.
  /// @param package  what to install, for whoever built moerl without it.
  SharedLibrary(const std::filesystem::path& file, const std::string& package);

  bool is_loaded() const { return handle_ != nullptr; }
  /// "found (NAME)", or why it cannot be loaded.
  std::string describe() const;

  /// Its function of that name, which must be declared extern "C".
  /// @throws ConfigError if the library is not loaded.
  template <typename Function>
  Function* function(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  std::string name_, error_;
  void* handle_ = nullptr;
};

}  // namespace moerl
