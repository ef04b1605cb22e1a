#include "reward/plugins/plugin_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/check.h"
#include "common/error.h"

extern char** environ;

namespace moerl::reward {
namespace {

constexpr size_t kMaxLineBytes = 64 << 20, kStderrTailBytes = 2000;
constexpr int kPollMs = 50;  // how soon a request to stop is seen

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

}  // namespace

PluginProcess::PluginProcess(const std::vector<std::string>& command) {
  check(!command.empty(), "PluginProcess: the command is empty");
  // A socket and not a pipe, because writing to a broken one need not raise SIGPIPE.
  int input[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) != 0)
    throw IoError(concat("plug-in ", command[0], ": socketpair: ", std::strerror(errno)));
  in_ = UniqueFd(input[0]);
  const UniqueFd child_in(input[1]);
  Pipe output = make_pipe(), errors = make_pipe();
  ProcessSpec spec;
  spec.program = "/usr/bin/env";
  spec.arguments = {"--"};
  spec.arguments.insert(spec.arguments.end(), command.begin(), command.end());
  for (char** each = environ; *each != nullptr; ++each) spec.environment.emplace_back(*each);
  spec.working_directory = std::filesystem::current_path();
  spec.descriptors = {{child_in.get(), 0}, {output.write.get(), 1}, {errors.write.get(), 2}};
  process_ = std::make_unique<ChildProcess>(spec);
  out_ = std::move(output.read);
  err_ = std::move(errors.read);
  for (int fd : {in_.get(), out_.get(), err_.get()}) set_nonblocking(fd);
}

PluginProcess::~PluginProcess() = default;

std::vector<std::string> PluginProcess::exchange(const std::string& text, size_t num_lines,
                                                 Clock::time_point deadline,
                                                 const std::stop_token& stop) {
  read_some();
  if (!buffer_.empty() && !text.empty())
    fail("wrote more lines than it was asked for: '" + buffer_.substr(0, 100) + "'");
  size_t written = 0, searched = 0;
  std::vector<std::string> lines;
  while (true) {
    for (size_t end;
         lines.size() < num_lines && (end = buffer_.find('\n', searched)) != std::string::npos;) {
      lines.push_back(buffer_.substr(0, end));
      buffer_.erase(0, end + 1);
      searched = 0;
    }
    if (lines.size() == num_lines) break;
    searched = buffer_.size();
    if (buffer_.size() > kMaxLineBytes) fail("wrote a line of more than 64 MiB");
    if (has_ended_) fail(concat("ended after ", lines.size(), " of ", num_lines, " answers"));
    wait_for_io(written < text.size(), deadline, stop);
    if (written < text.size()) write_some(text, written);
    read_some();
    read_errors();
  }
  if (written < text.size()) fail("answered before it had read its input");
  if (!buffer_.empty())
    fail("wrote more lines than it was asked for: '" + buffer_.substr(0, 100) + "'");
  return lines;
}

void PluginProcess::wait_for_io(bool wants_write, Clock::time_point deadline,
                                const std::stop_token& stop) {
  const Clock::time_point now = Clock::now();
  if (now >= deadline || stop.stop_requested()) {
    process_->kill_group();
    throw PluginTimeout("did not answer in time and was killed");
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
  std::array<pollfd, 3> polled = {pollfd{out_.get(), POLLIN, 0}, pollfd{err_.get(), POLLIN, 0},
                                  pollfd{wants_write ? in_.get() : -1, POLLOUT, 0}};
  ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<int64_t>(left, 1, kPollMs)));
}

void PluginProcess::write_some(const std::string& text, size_t& written) {
  const ssize_t n =
      ::send(in_.get(), text.data() + written, text.size() - written, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n > 0) written += static_cast<size_t>(n);
  // A closed input is not the fault to report: the end of the process follows, with a reason.
}

void PluginProcess::read_some() {
  std::array<char, 65536> chunk;
  while (true) {
    const ssize_t n = ::read(out_.get(), chunk.data(), chunk.size());
    if (n > 0) {
      buffer_.append(chunk.data(), static_cast<size_t>(n));
      if (buffer_.size() > kMaxLineBytes) return;
      continue;
    }
    if (n == 0) has_ended_ = true;
    if (n < 0 && errno == EINTR) continue;
    return;
  }
}

void PluginProcess::read_errors() {
  std::array<char, 4096> chunk;
  ssize_t n;
  while ((n = ::read(err_.get(), chunk.data(), chunk.size())) > 0) {
    stderr_tail_.append(chunk.data(), static_cast<size_t>(n));
    if (stderr_tail_.size() > kStderrTailBytes)
      stderr_tail_.erase(0, stderr_tail_.size() - kStderrTailBytes);
    // What the user's code prints is for the user; it is lost only if this stream is closed.
    [[maybe_unused]] const ssize_t ignored =
        ::write(STDERR_FILENO, chunk.data(), static_cast<size_t>(n));
  }
}

void PluginProcess::fail(const std::string& what) {
  std::string text = what;
  const std::optional<ProcessEnd> end =
      process_->wait(std::chrono::milliseconds(has_ended_ ? 1000 : 0));
  if (end)
    text += end->code < 0 ? concat(" (signal ", -end->code, ")")
                          : concat(" (exit status ", end->code, ")");
  else
    process_->kill_group();
  read_errors();
  if (!stderr_tail_.empty()) text += "; its stderr ends with: " + stderr_tail_;
  throw PluginFailure(text);
}

}  // namespace moerl::reward
