#include "reward/sandbox/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <optional>

#include "common/check.h"
#include "reward/sandbox/running_job.h"
#include "reward/sandbox/seccomp_filter.h"

namespace moerl::reward {
namespace {

constexpr uid_t kNobody = 65534;
constexpr int kStartMilliseconds = 30'000;
constexpr int64_t kStartMemoryBytes = int64_t{576} << 20;
/// Of all jobs and the trusted processes; a job's own limit is RLIMIT_NPROC.
constexpr int kMaxProcesses = 256;
// What the program inside finds; see inside/warden.py.
constexpr int kControlFd = 3, kJobFilterFd = 4, kContainerFilterFd = 5;

struct SocketPair {
  UniqueFd ours, theirs;
};

SocketPair make_socket_pair(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0)
    throw IoError(concat("socketpair: ", std::strerror(errno)));
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// What is in the pipe now.
std::string read_available(int fd) {
  std::array<char, 4096> buffer;
  pollfd readable{fd, POLLIN, 0};
  if (::poll(&readable, 1, 200) <= 0) return "";
  const ssize_t size = ::read(fd, buffer.data(), buffer.size());
  std::string text(buffer.data(), size > 0 ? static_cast<size_t>(size) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

Sandbox::Sandbox(const IsolationConfig& config) {
  if (config.cgroups.version != CgroupHierarchy::Version::kNone)
    cgroup_ = std::make_unique<Cgroup>(config.cgroups, kStartMemoryBytes, kMaxProcesses);
  SocketPair control = make_socket_pair(SOCK_SEQPACKET);
  control_ = std::move(control.ours);
  const UniqueFd job_filter = make_seccomp_filter(SeccompRole::kJob);
  const UniqueFd container_filter = make_seccomp_filter(SeccompRole::kWarden);
  Pipe complaints = make_pipe();

  ProcessSpec spec = {.program = config.bwrap, .arguments = config.bwrap_arguments};
  spec.arguments.insert(spec.arguments.end(), {"--seccomp", std::to_string(kContainerFilterFd),
                                               "--", config.python, "-s", "-c", config.warden});
  spec.descriptors = {{complaints.write.get(), 2},
                      {control.theirs.get(), kControlFd},
                      {job_filter.get(), kJobFilterFd},
                      {container_filter.get(), kContainerFilterFd}};
  if (::geteuid() == 0) spec.user = kNobody;
  if (cgroup_) spec.cgroup_procs = cgroup_->procs();
  spec.dies_with_thread = true;
  container_ = std::make_unique<ChildProcess>(spec);
  complaints.write.reset();
  control.theirs.reset();

  pollfd ready{control_.get(), POLLIN, 0};
  std::array<char, 64> message;
  if (::poll(&ready, 1, kStartMilliseconds) <= 0 ||
      ::recv(control_.get(), message.data(), message.size(), 0) <= 0) {
    const std::string text = read_available(complaints.read.get());
    container_.reset();
    throw IoError("the sandbox does not start: " + (text.empty() ? "no reason was given" : text));
  }
}

Sandbox::~Sandbox() {
  // Its first process ends with bubblewrap, and with it everything inside.
  container_.reset();
}

bool Sandbox::is_usable() const {
  // Between jobs nothing arrives but the end.
  pollfd end{control_.get(), POLLIN, 0};
  return is_usable_ && ::poll(&end, 1, 0) == 0;
}

JobResult Sandbox::run(const Job& job, const std::stop_token& cancel) {
  boost::asio::io_context io;
  RunningJob running(io, *this, job, [&] { io.stop(); });
  const std::stop_callback on_cancel(
      cancel, [&] { boost::asio::post(io, [&] { running.cancel(JobStop::kCancelled); }); });
  io.run();
  return std::move(running.result());
}

std::pair<JobResult, JobResult> Sandbox::run_joined(Sandbox& home, Job program, Sandbox& desk,
                                                    Job tests, const std::stop_token& cancel) {
  SocketPair channel = make_socket_pair(SOCK_STREAM);
  program.channel = channel.ours.get();
  tests.channel = channel.theirs.get();
  boost::asio::io_context io;
  int num_running = 2;
  std::optional<RunningJob> left, right;
  left.emplace(io, home, program, [&] {
    if (--num_running == 0) io.stop();
  });
  right.emplace(io, desk, tests, [&] {
    left->cancel(JobStop::kCancelled);
    if (--num_running == 0) io.stop();
  });
  channel.ours.reset();
  channel.theirs.reset();
  const std::stop_callback on_cancel(
      cancel, [&] { boost::asio::post(io, [&] { right->cancel(JobStop::kCancelled); }); });
  io.run();
  return {std::move(left->result()), std::move(right->result())};
}

}  // namespace moerl::reward
