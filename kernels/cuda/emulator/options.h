#pragma once
#include <cstdint>

namespace moerl::simt {

/// In which order the threads of a block take their turns between two barriers; kReverse takes the
/// blocks of a grid in reverse, too. A correct kernel does not notice.
enum class ThreadOrder { kForward, kReverse, kRandom };

struct Options {
  ThreadOrder order = ThreadOrder::kForward;
  uint32_t seed = 1;  ///< of kRandom
};
/// Those of all kernels that run from here on.
Options& options();

/// What kernels and emulator are built with.
enum class Sanitizer { kNone, kAddress, kThread };
Sanitizer sanitizer();

}  // namespace moerl::simt
