#pragma once
#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moerl {

/// A program to start: nothing is inherited but what stands here. No shell, no search in PATH.
struct ProcessSpec {
  /// Absolute path.
  std::filesystem::path program;
  /// Without the program's name.
  std::vector<std::string> arguments;
  /// The whole environment, each "NAME=value".
  std::vector<std::string> environment;
  std::filesystem::path working_directory = "/";
  /// Open descriptors as {here, there}; borrowed. Of 0, 1, 2 those that are not named are
  /// /dev/null; every other descriptor of this process is closed in the child.
  std::vector<std::pair<int, int>> descriptors;
  /// Resource limits as {RLIMIT_x, soft and hard}.
  std::vector<std::pair<int, rlimit>> limits;
  /// User and group id to take, without supplementary groups; needs root.
  std::optional<uid_t> user;
  /// Open `cgroup.procs` files that the child writes itself into before it starts; borrowed.
  std::vector<int> cgroup_procs;
  /// The kernel kills the child when the thread that started it ends.
  bool dies_with_thread = false;
};

/// How a process ended and what it used, its waited-for children included.
struct ProcessEnd {
  /// What it returned, or minus the number of the signal that ended it.
  int code = 0;
  std::chrono::microseconds cpu_time{0};
  int64_t max_rss_bytes = 0;
};

/// A running child in a session and process group of its own. The destructor kills and reaps it.
/// Thread safety: none, but kill_group may be called from any thread.
class ChildProcess {
 public:
  /// @throws IoError naming the program and the step that failed; std::invalid_argument for a
  ///   relative path.
  explicit ChildProcess(const ProcessSpec& spec);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  /// Readable once the process has ended; open as long as this object.
  int pidfd() const { return pidfd_; }

  /// kill -9 to every process of the group. One that has left the group (setsid) is not reached:
  /// who runs code that is not trusted needs a process namespace.
  void kill_group() noexcept;

  /// Waits for the end, kills what is left of the group, and reaps the process.
  /// @return empty optional if it still runs after the timeout.
  std::optional<ProcessEnd> wait(std::chrono::milliseconds timeout);

 private:
  pid_t pid_ = -1;
  int pidfd_ = -1;
  std::optional<ProcessEnd> end_;
};

}  // namespace moerl
