#pragma once
#include <memory>
#include <stop_token>
#include <utility>

#include "common/process/child_process.h"
#include "reward/sandbox/cgroup.h"
#include "reward/sandbox/isolation.h"
#include "reward/sandbox/job.h"

namespace moerl::reward {

/// A bubblewrap container with a trusted, warm Python process (inside/) that runs jobs one
/// after another. Each job has processes, files, IPC and limits of its own, which end with it:
/// nothing passes from one job to the next.
///
/// The walls: user, mount, pid, network, IPC, UTS and cgroup namespaces; a read-only /usr and
/// nothing else of the machine; no /proc; a small /tmp of the job's own; no capability, no new
/// privileges, two seccomp filters; an empty environment and no descriptor but the streams;
/// resource limits, and a control group where the machine gives one. Run by root, the container
/// has the identity of "nobody".
///
/// Thread safety: none; one job at a time. Destroy it on any thread.
class Sandbox {
 public:
  /// Starts the container and waits until it is ready. It dies with the calling thread.
  /// @throws IoError saying what bubblewrap or Python said.
  explicit Sandbox(const IsolationConfig& config);
  /// Kills everything inside.
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  /// Runs one job to its end. Blocks for at most the wall time and a grace of seconds.
  JobResult run(const Job& job, const std::stop_token& cancel = {});

  /// Runs a program (kServe, in `home`) and tests that call it (kJudge*, in `desk`), joined by a
  /// socket; both jobs' channels are set here. The program is cancelled when the tests end.
  static std::pair<JobResult, JobResult> run_joined(Sandbox& home, Job program, Sandbox& desk,
                                                    Job tests, const std::stop_token& cancel = {});

  /// False after a failure, or if it has ended: drop it and start another.
  bool is_usable() const;
  /// The host's pid of bubblewrap; for tests.
  pid_t pid() const { return container_->pid(); }

 private:
  friend class RunningJob;

  std::unique_ptr<Cgroup> cgroup_;
  UniqueFd control_;
  std::unique_ptr<ChildProcess> container_;
  bool is_usable_ = true;
  int64_t memory_limit_ = 0;
};

}  // namespace moerl::reward
