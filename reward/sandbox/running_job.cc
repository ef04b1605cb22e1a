#include "reward/sandbox/running_job.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/check.h"
#include "common/json.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
using std::chrono::microseconds;
using std::chrono::milliseconds;

/// What the warden may take beyond the wall time before it counts as lost.
constexpr milliseconds kGrace{5'000};
/// The warden adds the time in which a job waits for a processor, up to four times the wall time.
constexpr int kMaxStretch = 5;
/// Memory of the trusted processes in the same control group.
constexpr int64_t kWardenBytes = int64_t{64} << 20;
constexpr size_t kMaxDescriptors = 60;

/// A file in memory that nobody can change any more.
UniqueFd sealed_file(std::string_view content) {
  UniqueFd file(::memfd_create("job", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open()) throw IoError(concat("memfd_create: ", std::strerror(errno)));
  for (size_t at = 0; at < content.size();) {
    const ssize_t size = ::write(file.get(), content.data() + at, content.size() - at);
    if (size < 0) throw IoError(concat("writing a memfd: ", std::strerror(errno)));
    at += static_cast<size_t>(size);
  }
  ::lseek(file.get(), 0, SEEK_SET);
  ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  return file;
}

const char* kind_name(JobKind kind) {
  constexpr std::array kNames = {"script", "execute", "serve", "judge_tests", "judge_call"};
  return kNames.at(static_cast<size_t>(kind));
}

json to_json(const Job& job, bool watch_memory) {
  const JobLimits& limits = job.limits;
  json files = json::object();
  for (const auto& [name, file] : job.files) files[name] = file.is_executable ? 0755 : 0644;
  return {{"kind", kind_name(job.kind)},
          {"argv", job.argv},
          {"files", files},
          {"collect", job.collect},
          {"names", job.names},
          {"nonce", job.nonce},
          {"wall_ms", limits.wall.count()},
          {"memory_bytes", limits.memory_bytes},
          {"watch_memory", watch_memory},
          {"tmp_bytes", limits.tmp_bytes},
          {"tmp_files", limits.max_tmp_files},
          {"limits",
           {{"cpu", limits.cpu.count()},
            // Address space is larger than memory: what is reserved need not be used.
            {"as", 2 * limits.memory_bytes + (int64_t{256} << 20)},
            {"fsize", limits.tmp_bytes},
            {"nproc", limits.max_processes},
            {"nofile", 256},
            {"stack", int64_t{64} << 20},
            {"core", 0}}}};
}

/// @throws IoError.
void send(int socket, const std::string& text, const std::vector<int>& descriptors) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  check_internal(descriptors.size() <= kMaxDescriptors, "too many descriptors for one job");
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
  std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof(int) * descriptors.size());
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    throw IoError(concat("sandbox: sending a job: ", std::strerror(errno)));
}

std::string whole_file(int file) {
  const off_t size = ::lseek(file, 0, SEEK_END);
  std::string content(size > 0 ? static_cast<size_t>(size) : 0, '\0');
  if (::pread(file, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
    content.clear();
  return content;
}

}  // namespace

RunningJob::RunningJob(boost::asio::io_context& io, Sandbox& sandbox, const Job& job,
                       std::function<void()> on_end)
    : sandbox_(sandbox), on_end_(std::move(on_end)), control_(io), timer_(io) {
  if (sandbox_.cgroup_) {
    if (sandbox_.memory_limit_ != job.limits.memory_bytes)
      sandbox_.cgroup_->set_memory_limit(job.limits.memory_bytes + kWardenBytes);
    sandbox_.memory_limit_ = job.limits.memory_bytes;
    oom_kills_before_ = sandbox_.cgroup_->num_oom_kills();
  }
  Pipe out = make_pipe(), err = make_pipe();
  request(job, std::move(out.write), std::move(err.write));
  const auto on_flood = [this] { cancel(JobStop::kOutput); };
  out_ = std::make_unique<OutputReader>(io, std::move(out.read), job.limits.max_stdout_bytes,
                                        on_flood);
  err_ = std::make_unique<OutputReader>(io, std::move(err.read), job.limits.max_stderr_bytes,
                                        on_flood);
  control_.assign(::dup(sandbox_.control_.get()));
  control_.async_wait(control_.wait_read, [this](const boost::system::error_code& error) {
    if (!error) receive_reply();
  });
  timer_.expires_after(job.limits.wall * kMaxStretch + kGrace);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || has_ended_) return;
    sandbox_.is_usable_ = false;
    sandbox_.container_->kill_group();
    end(JobStop::kWall);
  });
}

void RunningJob::request(const Job& job, UniqueFd out, UniqueFd err) {
  json message = to_json(job, sandbox_.cgroup_ == nullptr);
  std::vector<std::string> names;
  std::vector<int> descriptors;
  std::vector<UniqueFd> owned;
  auto hand_over = [&](const std::string& name, int fd) {
    names.push_back(name);
    descriptors.push_back(fd);
  };
  auto hand_over_file = [&](const std::string& name, UniqueFd file) {
    hand_over(name, file.get());
    owned.push_back(std::move(file));
  };
  Pipe lifeline = make_pipe();
  lifeline_ = std::move(lifeline.write);
  hand_over_file("stdin", sealed_file(job.input));
  hand_over_file("source", sealed_file(job.source));
  hand_over_file("stdout", std::move(out));
  hand_over_file("stderr", std::move(err));
  hand_over_file("lifeline", std::move(lifeline.read));
  for (const auto& [name, file] : job.files)
    hand_over_file("file:" + name, sealed_file(file.content));
  if (job.channel >= 0) hand_over("channel", job.channel);
  if (!job.collect.empty()) {
    collected_.reset(::memfd_create("collected", MFD_CLOEXEC));
    hand_over("collect", collected_.get());
  }
  message["fds"] = names;
  send(sandbox_.control_.get(), message.dump(), descriptors);
}

void RunningJob::cancel(JobStop reason) {
  if (has_ended_ || cancelled_as_ != JobStop::kEnded) return;
  cancelled_as_ = reason;
  lifeline_.reset();
}

void RunningJob::receive_reply() {
  std::array<char, 8192> buffer;
  const ssize_t size = ::recv(sandbox_.control_.get(), buffer.data(), buffer.size(), 0);
  const json reply = size > 0 ? try_parse_json({buffer.data(), static_cast<size_t>(size)}) : json();
  const bool ran_out_of_memory =
      sandbox_.cgroup_ && sandbox_.cgroup_->num_oom_kills() > oom_kills_before_;
  const std::string stop = reply.is_object() ? reply.value("stop", "") : "";
  if (stop.empty() || stop == "failed") {
    // The warden itself may have been what the kernel killed.
    sandbox_.is_usable_ = false;
    result_.detail = reply.is_object() ? reply.value("detail", "") : "the sandbox has ended";
    return end(ran_out_of_memory ? JobStop::kMemory : JobStop::kFailed);
  }
  result_.code = reply.at("code");
  result_.cpu_time = microseconds(reply.at("cpu_us").get<int64_t>());
  result_.wall_time = microseconds(reply.at("wall_us").get<int64_t>());
  result_.max_rss_bytes = reply.at("max_rss_bytes");
  if (ran_out_of_memory || stop == "memory") return end(JobStop::kMemory);
  if (stop == "wall") return end(JobStop::kWall);
  end(stop == "cancelled" ? cancelled_as_ : JobStop::kEnded);
}

void RunningJob::end(JobStop stop) {
  has_ended_ = true;
  result_.stop = stop;
  boost::system::error_code ignored;
  control_.close(ignored);
  timer_.cancel();
  const bool was_flooded = cancelled_as_ == JobStop::kOutput;
  out_->drain();
  err_->drain();
  if (was_flooded && stop == JobStop::kEnded) result_.stop = JobStop::kOutput;
  result_.out = std::move(out_->text());
  result_.err = std::move(err_->text());
  if (collected_.is_open()) result_.collected = whole_file(collected_.get());
  on_end_();
}

}  // namespace moerl::reward
