#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "reward/sandbox/sandbox.h"

namespace moerl::reward::testing {

using std::chrono::milliseconds;

/// Whether this machine can run a sandbox; found out once.
inline const std::string& isolation_problem() {
  static const std::string problem = inspect_isolation().problem;
  return problem;
}

/// Tests of what runs in a sandbox; skipped where the kernel forbids one.
class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!isolation_problem().empty()) GTEST_SKIP() << isolation_problem();
  }
};

inline Job script(const std::string& source, milliseconds wall = milliseconds(5'000)) {
  Job job{.source = source};
  job.limits.wall = wall;
  return job;
}

/// Processes below `root`, itself included.
inline size_t num_processes_below(pid_t root) {
  std::map<pid_t, pid_t> parents;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream in(entry.path() / "stat");
    std::string stat;
    if (!std::getline(in, stat)) continue;
    const size_t end = stat.rfind(") ");
    if (end == std::string::npos) continue;
    parents[std::stoi(name)] = std::stoi(stat.substr(end + 4));
  }
  return static_cast<size_t>(std::count_if(parents.begin(), parents.end(), [&](const auto& each) {
    for (pid_t pid = each.first; pid > 1; pid = parents.contains(pid) ? parents.at(pid) : 0)
      if (pid == root) return true;
    return false;
  }));
}

inline size_t num_open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

/// Control groups that this process has made and not removed.
inline size_t num_cgroups_left() {
  const CgroupHierarchy hierarchy = find_cgroups();
  if (hierarchy.version == CgroupHierarchy::Version::kNone) return 0;
  const std::string prefix = "moerl-" + std::to_string(::getpid()) + "-";
  size_t count = 0;
  for (const auto& parent : {hierarchy.memory, hierarchy.pids})
    for (const auto& entry : std::filesystem::directory_iterator(parent))
      count += entry.path().filename().string().starts_with(prefix);
  return count;
}

/// The next job of the sandbox is right, and nothing of earlier ones is left beside it.
inline void expect_clean(Sandbox& sandbox) {
  ASSERT_TRUE(sandbox.is_usable());
  const JobResult next = sandbox.run(script("import os\nprint(os.listdir('/tmp'), 6 * 7)"));
  EXPECT_EQ(next.out, "['main.py'] 42\n") << next.err << next.detail;
  // Bubblewrap and the process that forks wardens; the last warden may still be on its way out.
  for (int i = 0; i < 5000 && num_processes_below(sandbox.pid()) > 2; ++i) ::usleep(1000);
  EXPECT_EQ(num_processes_below(sandbox.pid()), 2U);
}

}  // namespace moerl::reward::testing
