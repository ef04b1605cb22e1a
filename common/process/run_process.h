#pragma once
#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>

#include "common/process/child_process.h"

namespace moerl {

struct ProcessLimits {
  /// Wall time until everything is killed.
  std::chrono::milliseconds wall{10'000};
  /// Bytes kept of each stream; one more byte ends the process.
  size_t max_stdout_bytes = 1 << 20;
  size_t max_stderr_bytes = 1 << 16;
};

/// What ended a process that ran to its end or to a limit.
enum class ProcessStop {
  kEnded,        ///< it ended by itself: see ProcessResult::end
  kWall,         ///< cut at ProcessLimits::wall
  kOutputLimit,  ///< it wrote more than it may
  kCancelled,    ///< the caller's stop token
};

struct ProcessResult {
  ProcessStop stop = ProcessStop::kEnded;
  ProcessEnd end;
  std::string out, err;
  std::chrono::microseconds wall_time{0};
};

/// Runs a program to its end: feeds `input` to its standard input, collects what it writes, and
/// kills its process group at the first limit. A program that does not read its input is no error.
/// Blocks; returns at the latest shortly after the wall limit, even if a process that left the
/// group still holds the streams open. Descriptors 0 to 2 of the spec are set here.
/// @throws as ChildProcess.
ProcessResult run_process(ProcessSpec spec, std::string_view input, const ProcessLimits& limits,
                          const std::stop_token& cancel = {});

}  // namespace moerl
