#include "common/process/child_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/check.h"
#include "common/process/unique_fd.h"

namespace moerl {
namespace {

/// Everything the child needs, made ready before it exists: it shares our memory until it starts
/// its program, so it may neither allocate nor take a lock.
struct Plan {
  const char* program;
  const char* working_directory;
  std::vector<char*> argv, envp;
  struct Move {
    int from, to, temporary;
  };
  std::vector<Move> moves;                            // sorted by `to`
  std::vector<std::pair<unsigned, unsigned>> closed;  // ranges of descriptors
  const std::vector<std::pair<int, rlimit>>* limits;
  const std::vector<int>* cgroup_procs;
  bool changes_user;
  uid_t user;
  bool dies_with_thread;
};

struct Failure {
  const char* step = nullptr;
  int error = 0;
};

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> all;
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

/// Runs in the child: system calls only. Returns the step that failed.
const char* become_program(Plan& plan) {
  if (::syscall(SYS_setsid) < 0) return "setsid";
  if (plan.dies_with_thread && ::prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return "prctl";
  for (int file : *plan.cgroup_procs)
    if (::write(file, "0", 1) != 1) return "joining the cgroup";

  const int first_free = plan.moves.back().to + 1;
  for (Plan::Move& move : plan.moves)
    if ((move.temporary = ::fcntl(move.from, F_DUPFD, first_free)) < 0) return "dup";
  for (const Plan::Move& move : plan.moves)
    if (::dup2(move.temporary, move.to) < 0) return "dup2";
  for (const auto& [first, last] : plan.closed)
    if (::syscall(SYS_close_range, first, last, 0) < 0) return "close_range";

  for (const auto& [resource, limit] : *plan.limits)
    if (::syscall(SYS_prlimit64, 0, resource, &limit, nullptr) < 0) return "setrlimit";
  if (plan.changes_user) {
    // Not by the C library, whose functions would change every thread of the parent.
    if (::syscall(SYS_setgroups, 0, nullptr) < 0) return "setgroups";
    if (::syscall(SYS_setresgid, plan.user, plan.user, plan.user) < 0) return "setresgid";
    if (::syscall(SYS_setresuid, plan.user, plan.user, plan.user) < 0) return "setresuid";
    // A change of user clears it.
    if (plan.dies_with_thread && ::prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return "prctl";
  }
  if (::chdir(plan.working_directory) < 0) return "chdir";
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(SIGPIPE, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(plan.program, plan.argv.data(), plan.envp.data());
  return "starting the program";
}

[[gnu::noinline]] pid_t spawn(Plan& plan, volatile Failure& failure) {
  const pid_t pid = ::vfork();
  if (pid != 0) return pid;
  failure.step = become_program(plan);
  failure.error = errno;
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const ProcessSpec& spec) {
  check(spec.program.is_absolute(), "ChildProcess: the program is '", spec.program.string(),
        "', expected an absolute path");
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  std::vector<std::string> argv = {spec.program.string()}, envp = spec.environment;
  argv.insert(argv.end(), spec.arguments.begin(), spec.arguments.end());
  const std::string directory = spec.working_directory.string();

  Plan plan = {argv[0].c_str(),
               directory.c_str(),
               pointers(argv),
               pointers(envp),
               {},
               {},
               &spec.limits,
               &spec.cgroup_procs,
               spec.user.has_value(),
               spec.user.value_or(0),
               spec.dies_with_thread};
  for (const auto& [here, there] : spec.descriptors) plan.moves.push_back({here, there, -1});
  for (int standard : {0, 1, 2})
    if (std::none_of(plan.moves.begin(), plan.moves.end(),
                     [&](const Plan::Move& move) { return move.to == standard; }))
      plan.moves.push_back({null.get(), standard, -1});
  std::sort(plan.moves.begin(), plan.moves.end(),
            [](const Plan::Move& a, const Plan::Move& b) { return a.to < b.to; });
  unsigned next = 0;
  for (const Plan::Move& move : plan.moves) {
    const auto kept = static_cast<unsigned>(move.to);
    if (kept > next) plan.closed.emplace_back(next, kept - 1);
    next = kept + 1;
  }
  plan.closed.emplace_back(next, ~0U);

  // No handler of ours may run in the child while it shares our memory.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile Failure failure;
  pid_ = spawn(plan, failure);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid_ < 0) throw IoError(concat(argv[0], ": vfork: ", std::strerror(error)));
  if (failure.step != nullptr) {
    ::waitpid(pid_, nullptr, 0);
    const char* step = failure.step;
    throw IoError(concat(argv[0], ": ", step, ": ", std::strerror(failure.error)));
  }
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd_ < 0) {
    const int reason = errno;
    kill_group();
    ::waitpid(pid_, nullptr, 0);
    throw IoError(concat(argv[0], ": pidfd_open: ", std::strerror(reason)));
  }
}

ChildProcess::~ChildProcess() {
  kill_group();
  wait(std::chrono::milliseconds(-1));
  ::close(pidfd_);
}

void ChildProcess::kill_group() noexcept {
  // The leader keeps the number from being used again until it is reaped. Where vfork does not wait
  // for the program (the thread sanitizer makes it a fork), there may be no group yet.
  if (!end_ && ::kill(-pid_, SIGKILL) != 0) ::kill(pid_, SIGKILL);
}

std::optional<ProcessEnd> ChildProcess::wait(std::chrono::milliseconds timeout) {
  if (end_) return end_;
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + timeout;
  for (pollfd ended{pidfd_, POLLIN, 0};;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    const int milliseconds =
        timeout.count() < 0 ? -1 : static_cast<int>(std::max<int64_t>(0, left.count()));
    const int count = ::poll(&ended, 1, milliseconds);
    if (count > 0) break;
    if (count == 0) return std::nullopt;
  }
  kill_group();
  int status = 0;
  rusage used{};
  while (::wait4(pid_, &status, 0, &used) < 0 && errno == EINTR) {
  }
  auto micros = [](const timeval& time) {
    return std::chrono::microseconds(time.tv_sec * int64_t{1'000'000} + time.tv_usec);
  };
  end_ = ProcessEnd{WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
                    micros(used.ru_utime) + micros(used.ru_stime), int64_t{used.ru_maxrss} * 1024};
  return end_;
}

}  // namespace moerl
