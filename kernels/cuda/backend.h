#pragma once
#include <stdexcept>

namespace moerl::kernels {

/// The answer to a device other than the CPU in a build without CUDA sources.
/// @throws std::runtime_error always.
[[noreturn]] inline void throw_no_cuda() {
  throw std::runtime_error("this build has no CUDA backend");
}

}  // namespace moerl::kernels
