#pragma once
#include <chrono>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

#include "common/process/child_process.h"
#include "common/process/unique_fd.h"

namespace moerl::reward {

/// The process did not answer in time; it is killed.
class PluginTimeout : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// The process ended, or broke the protocol; the text says how, with the end of its stderr.
class PluginFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A child process that reads lines on its standard input and answers with lines on its standard
/// output. What it writes to standard error goes to this process's. Destroying it kills it.
/// Thread safety: none.
class PluginProcess {
 public:
  using Clock = std::chrono::steady_clock;

  /// @param command  program, looked up in PATH, and its arguments; no shell. It inherits the
  ///   environment, the working directory and nothing else.
  /// @throws IoError.
  explicit PluginProcess(const std::vector<std::string>& command);
  ~PluginProcess();

  /// Sends `text` and waits for `num_lines` lines, returned without their ends.
  /// @throws PluginTimeout at the deadline or when stop is requested; PluginFailure. After either
  ///   the process cannot be used any more.
  std::vector<std::string> exchange(const std::string& text, size_t num_lines,
                                    Clock::time_point deadline, const std::stop_token& stop);

 private:
  void wait_for_io(bool wants_write, Clock::time_point deadline, const std::stop_token& stop);
  void write_some(const std::string& text, size_t& written);
  void read_some();
  void read_errors();
  [[noreturn]] void fail(const std::string& what);

  UniqueFd in_, out_, err_;  // our ends
  std::unique_ptr<ChildProcess> process_;
  std::string buffer_;       // read, and not yet returned
  std::string stderr_tail_;  // the last of what it wrote there
  bool has_ended_ = false;   // its output is closed
};

}  // namespace moerl::reward
