#pragma once
#include <string>

namespace moerl::reward {

/// The process of a library plug-in: loads the library, answers batches on standard input (see
/// PluginVerifier) until that ends. What the library prints goes to standard error.
/// @return the exit status.
int run_library_host(const std::string& path);

}  // namespace moerl::reward
