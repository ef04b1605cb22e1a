#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/process/unique_fd.h"

namespace moerl::reward {

/// The control groups that this process may make.
struct CgroupHierarchy {
  enum class Version { kNone, kV1, kV2 };
  Version version = Version::kNone;
  /// Directories in which a group can be made; v2: both are the same.
  std::filesystem::path memory, pids;
  /// For people: why there is none.
  std::string reason;
};

/// Looks where this process stands in the hierarchies and whether it may make a group with a memory
/// and a pids controller there (v2: there, or beside its own group, since a group with processes
/// cannot pass controllers on).
/// @param proc, root  prefixes of /proc/self/cgroup, /proc/self/mountinfo and of the mount points;
///   for tests.
CgroupHierarchy find_cgroups(const std::filesystem::path& proc = "/proc/self",
                             const std::filesystem::path& root = "");

/// Removes the groups of processes of ours that were killed before they could. Groups in which
/// anything runs stay.
void remove_stale_cgroups(const CgroupHierarchy& hierarchy);

/// One line for people, such as "v1 (memory, pids)".
std::string to_string(const CgroupHierarchy& hierarchy);

/// A control group of ours: limits a tree of processes. Removed by the destructor, which waits up
/// to two seconds for its killed processes to be gone. Thread safety: none.
class Cgroup {
 public:
  /// REQUIRES: hierarchy.version is not kNone.  @throws IoError.
  Cgroup(const CgroupHierarchy& hierarchy, int64_t memory_bytes, int max_processes);
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  /// @throws IoError.
  void set_memory_limit(int64_t bytes);
  /// Open cgroup.procs files, for ProcessSpec::cgroup_procs.
  std::vector<int> procs() const;
  /// How often the kernel killed a process here for want of memory.
  uint64_t num_oom_kills() const;

 private:
  const CgroupHierarchy::Version version_;
  std::vector<std::filesystem::path> directories_;
  std::vector<UniqueFd> procs_;
};

}  // namespace moerl::reward
