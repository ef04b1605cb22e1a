#include "common/process/run_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "common/error.h"
#include "common/process/unique_fd.h"
#include "tests/testing/sanitized.h"

namespace moerl {
namespace {

using std::chrono::milliseconds;

// Only the test uses a shell: as a program that does what a case needs.
ProcessSpec shell(const std::string& script) {
  return {.program = "/bin/sh", .arguments = {"-c", script}, .environment = {"PATH=/usr/bin:/bin"}};
}

size_t num_open_descriptors() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

/// False for a process that is gone or waits to be reaped.
bool is_running(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/stat");
  std::string stat;
  return std::getline(in, stat) && stat.find(") Z ") == std::string::npos;
}

TEST(RunProcessTest, FeedsInputAndCollectsBothStreams) {
  const ProcessResult result = run_process(shell("cat; echo problem >&2; exit 3"), "text", {});
  EXPECT_EQ(result.stop, ProcessStop::kEnded);
  EXPECT_EQ(result.end.code, 3);
  EXPECT_EQ(result.out, "text");
  EXPECT_EQ(result.err, "problem\n");
  EXPECT_GT(result.end.max_rss_bytes, 100'000);
}

TEST(RunProcessTest, InputLargerThanAPipePassesThrough) {
  const std::string input(3'000'000, 'x');
  const ProcessResult result = run_process(shell("cat"), input, {.max_stdout_bytes = input.size()});
  EXPECT_EQ(result.stop, ProcessStop::kEnded);
  EXPECT_EQ(result.out, input);
}

TEST(RunProcessTest, InputThatNobodyReadsIsNoError) {
  const ProcessResult result =
      run_process(shell("exec <&-; echo done"), std::string(3'000'000, 'x'), {});
  EXPECT_EQ(result.end.code, 0);
  EXPECT_EQ(result.out, "done\n");
}

TEST(RunProcessTest, ReportsTheSignal) {
  EXPECT_EQ(run_process(shell("kill -SEGV $$"), "", {}).end.code, -SIGSEGV);
}

TEST(RunProcessTest, KillsTheGroupAtTheWallLimit) {
  // The child of the shell holds the stream open: only killing the group ends it.
  const ProcessResult result =
      run_process(shell("sleep 1000 & echo $!; wait"), "", {.wall = milliseconds(200)});
  EXPECT_EQ(result.stop, ProcessStop::kWall);
  EXPECT_EQ(result.end.code, -SIGKILL);
  while (is_running(result.out.substr(0, result.out.find('\n')))) std::this_thread::yield();
}

TEST(RunProcessTest, ProcessThatLeftTheGroupDoesNotHoldUsUp) {
  const ProcessResult result =
      run_process(shell("setsid sleep 20 & echo $!"), "", {.wall = milliseconds(10'000)});
  EXPECT_EQ(result.stop, ProcessStop::kEnded);
  EXPECT_LT(result.wall_time, milliseconds(9'000));
  ::kill(std::stoi(result.out), SIGKILL);
}

TEST(RunProcessTest, CutsOutputAtItsLimit) {
  const ProcessResult flood = run_process(shell("yes"), "", {.max_stdout_bytes = 1000});
  EXPECT_EQ(flood.stop, ProcessStop::kOutputLimit);
  EXPECT_EQ(flood.out.size(), 1000U);
  const ProcessResult exact = run_process(shell("echo 1234"), "", {.max_stdout_bytes = 5});
  EXPECT_EQ(exact.stop, ProcessStop::kEnded);
  EXPECT_EQ(exact.out, "1234\n");
}

TEST(RunProcessTest, InheritsNeitherDescriptorsNorEnvironment) {
  const UniqueFd file(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const UniqueFd secret(::fcntl(file.get(), F_DUPFD, 50));  // without O_CLOEXEC
  ::setenv("MOERL_TEST_SECRET", "1", 1);
  const ProcessResult result = run_process(
      {.program = "/bin/sh", .arguments = {"-c", "echo /proc/$$/fd/*; exec env"}}, "", {});
  ::unsetenv("MOERL_TEST_SECRET");
  EXPECT_EQ(result.out.find("/fd/" + std::to_string(secret.get())), std::string::npos)
      << result.out;
  EXPECT_EQ(result.out.find("SECRET"), std::string::npos) << result.out;
}

TEST(RunProcessTest, HandsOverNamedDescriptors) {
  Pipe extra = make_pipe();
  ProcessSpec spec = shell("echo hello >&7");
  spec.descriptors = {{extra.write.get(), 7}};
  EXPECT_EQ(run_process(spec, "", {}).end.code, 0);
  char text[6] = {};
  EXPECT_EQ(::read(extra.read.get(), text, 6), 6);
  EXPECT_EQ(std::string(text, 6), "hello\n");
}

TEST(RunProcessTest, AppliesResourceLimits) {
  ProcessSpec spec = shell("ulimit -n");
  spec.limits = {{RLIMIT_NOFILE, {17, 17}}};
  EXPECT_EQ(run_process(spec, "", {}).out, "17\n");
}

TEST(RunProcessTest, StopsWhenCancelled) {
  std::stop_source stop;
  std::jthread canceller([&] { stop.request_stop(); });
  EXPECT_EQ(run_process(shell("sleep 1000"), "", {}, stop.get_token()).stop,
            ProcessStop::kCancelled);
}

TEST(RunProcessTest, NamesTheProgramThatCannotStart) {
  if (!testing::kVforkSharesMemory) GTEST_SKIP() << "vfork is a fork here";
  try {
    run_process({.program = "/nonexistent/program"}, "", {});
    FAIL() << "expected IoError";
  } catch (const IoError& error) {
    EXPECT_STREQ(error.what(),
                 "/nonexistent/program: starting the program: No such file or directory");
  }
  EXPECT_THROW(run_process({.program = "sh"}, "", {}), std::invalid_argument);
}

TEST(RunProcessTest, LeavesNoDescriptorAndNoZombie) {
  run_process(shell("true"), "", {});
  const size_t before = num_open_descriptors();
  for (int i = 0; i < 20; ++i) run_process(shell("yes"), "x", {.max_stdout_bytes = 10});
  EXPECT_EQ(num_open_descriptors(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(ChildProcessTest, WaitsAndIsKilledAtTheEndOfItsScope) {
  pid_t pid = 0;
  {
    ChildProcess child(shell("sleep 1000"));
    pid = child.pid();
    EXPECT_FALSE(child.wait(milliseconds(10)).has_value());
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

}  // namespace
}  // namespace moerl
