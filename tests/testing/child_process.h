#pragma once
// Programs that tests start, watch, and kill.
#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace moerl::testing {

using Arguments = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

/// A file's bytes.
std::string file_bytes(const std::filesystem::path& path);
void write_text(const std::filesystem::path& path, const std::string& text);

/// A new, empty directory, removed at the end.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// A running program; killed and reaped at the end of its scope at the latest.
class ChildProcess {
 public:
  /// @param environment  set in addition to this process's own.
  /// @param input  standard input.
  ChildProcess(const std::filesystem::path& program, const Arguments& arguments,
               const Environment& environment = {}, const std::string& input = {});
  ~ChildProcess() { kill(); }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal);
  /// kill -9, and wait for the end.
  void kill();
  /// Waits for the end; false: it still runs.
  bool ends_within(std::chrono::milliseconds timeout);
  /// After the end: what it returned, or minus the signal that ended it.
  int exit_code() const { return exit_code_; }

  std::string out() const { return copy(out_); }
  std::string err() const { return copy(err_); }
  /// Blocks until `part` is in what it has written to standard output or error.
  /// @return whether it came in time.
  bool has_written(const std::string& part,
                   std::chrono::milliseconds timeout = std::chrono::seconds(60));

 private:
  void collect(int end, std::string& text);
  std::string copy(const std::string& text) const;

  pid_t pid_ = 0;
  int pidfd_ = -1;
  bool ended_ = false;
  int exit_code_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::string out_, err_;  // guarded by mutex_
  int num_closed_ = 0;     // guarded by mutex_
  std::vector<std::thread> threads_;
};

/// How a program ended.
struct Outcome {
  int exit_code = 0;
  std::string out, err;
};

/// Runs a program to its end; one that takes longer than the deadline (under a sanitizer five times
/// as long) is killed, and the test fails.
Outcome run_program(const std::filesystem::path& program, const Arguments& arguments,
                    const Environment& environment = {}, const std::string& input = {},
                    std::chrono::milliseconds deadline = std::chrono::seconds(120));

}  // namespace moerl::testing
