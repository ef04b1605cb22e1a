#include "reward/sandbox/cgroup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "reward/sandbox/seccomp_filter.h"

namespace moerl::reward {
namespace {

namespace fs = std::filesystem;

/// A machine made of files.
class CgroupTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "cgroup-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  CgroupHierarchy find() { return find_cgroups(root_ / "proc", root_); }

  fs::path root_;
};

TEST_F(CgroupTest, NoneWithoutAFileSystem) {
  write("proc/mountinfo", "25 1 0:22 / /proc rw - proc proc rw\n");
  write("proc/cgroup", "0::/\n");
  const CgroupHierarchy found = find();
  EXPECT_EQ(found.version, CgroupHierarchy::Version::kNone);
  EXPECT_EQ(to_string(found), "none: no cgroup file system is mounted");
}

TEST_F(CgroupTest, NoneWhereTheControllersAreNotPassedOn) {
  write("proc/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
  write("proc/cgroup", "0::/user.slice/shell\n");
  write("sys/fs/cgroup/user.slice/shell/cgroup.subtree_control", "cpu");
  write("sys/fs/cgroup/user.slice/cgroup.subtree_control", "cpu memory");
  const CgroupHierarchy found = find();
  EXPECT_EQ(found.version, CgroupHierarchy::Version::kNone);
  EXPECT_NE(found.reason.find("/sys/fs/cgroup/user.slice/shell"), std::string::npos)
      << found.reason;
}

TEST_F(CgroupTest, NoneWhereAGroupGetsNoLimits) {
  // Directories made in this test's tree have no control files.
  write("proc/mountinfo",
        "31 1 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n"
        "32 1 0:28 / /cg/pids rw - cgroup cgroup rw,pids\n");
  write("proc/cgroup", "4:memory:/job\n8:pids:/\n");
  write("cg/memory/job/tasks", "");
  write("cg/pids/tasks", "");
  const CgroupHierarchy found = find();
  EXPECT_EQ(found.version, CgroupHierarchy::Version::kNone);
  EXPECT_EQ(found.memory, root_.string() + "/cg/memory/job");
  EXPECT_EQ(found.pids, root_.string() + "/cg/pids");
}

TEST(CgroupOnThisMachineTest, LimitsAndGoesAway) {
  const CgroupHierarchy hierarchy = find_cgroups();
  if (hierarchy.version == CgroupHierarchy::Version::kNone) GTEST_SKIP() << to_string(hierarchy);
  const auto num_groups = [&] {
    const fs::directory_iterator all(hierarchy.pids);
    return std::count_if(begin(all), end(all),
                         [](const auto& entry) { return entry.is_directory(); });
  };
  const auto before = num_groups();
  {
    Cgroup group(hierarchy, 64 << 20, 10);
    group.set_memory_limit(256 << 20);
    group.set_memory_limit(128 << 20);
    EXPECT_EQ(num_groups(), before + 1);
    EXPECT_EQ(group.num_oom_kills(), 0U);
    EXPECT_FALSE(group.procs().empty());
  }
  EXPECT_EQ(num_groups(), before);
}

TEST(CgroupOnThisMachineTest, GroupsOfTheDeadAreRemoved) {
  const CgroupHierarchy hierarchy = find_cgroups();
  if (hierarchy.version == CgroupHierarchy::Version::kNone) GTEST_SKIP() << to_string(hierarchy);
  // No process has this number: it is above the kernel's largest.
  const fs::path stale = hierarchy.pids / "moerl-99999999-0";
  const fs::path live = hierarchy.pids / ("moerl-" + std::to_string(::getpid()) + "-999");
  ASSERT_TRUE(fs::create_directory(stale) && fs::create_directory(live));
  remove_stale_cgroups(hierarchy);
  EXPECT_FALSE(fs::exists(stale));
  EXPECT_TRUE(fs::exists(live));
  ::rmdir(live.c_str());
}

TEST(SeccompFilterTest, JobsAreRefusedMoreThanTheWarden) {
  const auto size = [](SeccompRole role) {
    return ::lseek(make_seccomp_filter(role).get(), 0, SEEK_END);
  };
  EXPECT_GT(size(SeccompRole::kWarden), 0);
  EXPECT_GT(size(SeccompRole::kJob), size(SeccompRole::kWarden));
}

}  // namespace
}  // namespace moerl::reward
