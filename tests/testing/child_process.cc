#include "tests/testing/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/testing/sanitized.h"

extern "C" char** environ;

namespace moerl::testing {
namespace {

Arguments merged(Environment settings) {
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    settings.emplace(text.substr(0, text.find('=')), text.substr(text.find('=') + 1));
  }
  Arguments all;
  for (const auto& [name, value] : settings) all.push_back(name + "=" + value);
  return all;
}
std::vector<char*> pointers(Arguments& words) {
  std::vector<char*> all;
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

}  // namespace

std::string file_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TempDirectory::TempDirectory() {
  std::string name = ::testing::TempDir() + "moerl-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp: " + name);
  path_ = name;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ChildProcess::ChildProcess(const std::filesystem::path& program, const Arguments& arguments,
                           const Environment& environment, const std::string& input) {
  int in[2], out[2], err[2];
  for (int* ends : {in, out, err})
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  ::posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  Arguments words = {program.string()}, settings = merged(environment);
  words.insert(words.end(), arguments.begin(), arguments.end());
  const int error = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, pointers(words).data(),
                                  pointers(settings).data());
  ::posix_spawn_file_actions_destroy(&actions);
  for (int end : {in[0], out[1], err[1]}) ::close(end);
  if (error != 0) throw std::runtime_error(program.string() + ": " + std::strerror(error));
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  threads_.emplace_back([this, end = out[0]] { collect(end, out_); });
  threads_.emplace_back([this, end = err[0]] { collect(end, err_); });
  threads_.emplace_back([end = in[1], input] {
    for (size_t at = 0; at < input.size();) {
      const ssize_t n = ::write(end, input.data() + at, input.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    ::close(end);
  });
}

void ChildProcess::send(int signal) {
  if (!ended_) ::kill(pid_, signal);
}

void ChildProcess::kill() {
  send(SIGKILL);
  ends_within(std::chrono::seconds(60));
}

bool ChildProcess::ends_within(std::chrono::milliseconds timeout) {
  if (ended_) return true;
  pollfd end{pidfd_, POLLIN, 0};
  if (::poll(&end, 1, static_cast<int>(timeout.count())) <= 0) return false;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  ended_ = true;
  for (std::thread& thread : threads_) thread.join();
  ::close(pidfd_);
  return true;
}

bool ChildProcess::has_written(const std::string& part, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const auto is_there = [&] {
    return out_.find(part) != std::string::npos || err_.find(part) != std::string::npos;
  };
  return more_.wait_for(lock, timeout, [&] { return is_there() || num_closed_ == 2; }) &&
         is_there();
}

void ChildProcess::collect(int end, std::string& text) {
  char buffer[4096];
  for (ssize_t n; (n = ::read(end, buffer, sizeof buffer)) > 0;) {
    std::lock_guard lock(mutex_);
    text.append(buffer, static_cast<size_t>(n));
    more_.notify_all();
  }
  ::close(end);
  std::lock_guard lock(mutex_);
  ++num_closed_;
  more_.notify_all();
}

std::string ChildProcess::copy(const std::string& text) const {
  std::lock_guard lock(mutex_);
  return text;
}

Outcome run_program(const std::filesystem::path& program, const Arguments& arguments,
                    const Environment& environment, const std::string& input,
                    std::chrono::milliseconds deadline) {
  ChildProcess child(program, arguments, environment, input);
  if (kIsSanitized) deadline *= 5;
  if (!child.ends_within(deadline)) {
    child.kill();
    ADD_FAILURE() << program << " did not end within " << deadline.count() << " ms; it wrote\n"
                  << child.err();
  }
  return {child.exit_code(), child.out(), child.err()};
}

}  // namespace moerl::testing
