#include "reward/sandbox/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "common/check.h"

namespace moerl::reward {
namespace {

namespace fs = std::filesystem;
using Version = CgroupHierarchy::Version;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

bool has_word(const fs::path& file, const std::string& word) {
  std::ifstream in(file);
  for (std::string each; in >> each;)
    if (each == word) return true;
  return false;
}

/// Sets a control file; cgroups report a refusal when the value is written.
bool set(const fs::path& file, const std::string& value) {
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.is_open() &&
         ::write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

/// @throws IoError.
void require(const fs::path& file, const std::string& value) {
  if (!set(file, value))
    throw IoError(concat(file.string(), ": cannot be set to ", value, ": ", std::strerror(errno)));
}

struct Mount {
  fs::path point;
  std::string root;
};

/// Mount points of cgroup file systems by controller; v2 is the controller "".
std::map<std::string, Mount> read_mounts(const fs::path& proc) {
  std::map<std::string, Mount> mounts;
  std::ifstream in(proc / "mountinfo");
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 4) continue;
    const Mount mount{words[4], words[3]};
    if (dash[1] == "cgroup2") mounts.emplace("", mount);
    if (dash[1] == "cgroup")
      for (const std::string& option : split(dash[3], ',')) mounts.emplace(option, mount);
  }
  return mounts;
}

/// The group of this process by controller; v2 is the controller "".
std::map<std::string, std::string> read_groups(const fs::path& proc) {
  std::map<std::string, std::string> groups;
  std::ifstream in(proc / "cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) groups[""] = line.substr(second + 1);
    for (const std::string& each : split(controllers, ',')) groups[each] = line.substr(second + 1);
  }
  return groups;
}

fs::path directory_of(const fs::path& root, const Mount& mount, std::string group) {
  // Inside a container the group's path may start with what the mount leaves out.
  if (mount.root != "/" && group.starts_with(mount.root)) group = group.substr(mount.root.size());
  return fs::path(root.string() + mount.point.string() + (group == "/" ? "" : group));
}

bool can_make_group(const fs::path& parent, const char* limit_file) {
  static std::atomic<unsigned> counter{0};
  const fs::path trial = parent / concat("moerl-probe-", ::getpid(), "-", counter.fetch_add(1));
  std::error_code error;
  if (!fs::create_directory(trial, error)) return false;
  const bool works = ::access((trial / limit_file).c_str(), W_OK) == 0;
  ::rmdir(trial.c_str());
  return works;
}

}  // namespace

CgroupHierarchy find_cgroups(const fs::path& proc, const fs::path& root) {
  const auto mounts = read_mounts(proc);
  auto groups = read_groups(proc);
  CgroupHierarchy found;
  if (mounts.contains("memory") && mounts.contains("pids")) {
    found.memory = directory_of(root, mounts.at("memory"), groups["memory"]);
    found.pids = directory_of(root, mounts.at("pids"), groups["pids"]);
    if (can_make_group(found.memory, "memory.limit_in_bytes") &&
        can_make_group(found.pids, "pids.max"))
      found.version = Version::kV1;
    else
      found.reason =
          concat("no group can be made in ", found.memory.string(), " and ", found.pids.string());
    return found;
  }
  if (!mounts.contains("")) {
    found.reason = "no cgroup file system is mounted";
    return found;
  }
  const fs::path top = root.string() + mounts.at("").point.string();
  const fs::path own = directory_of(root, mounts.at(""), groups[""]);
  for (const fs::path& parent : {own, own == top ? own : own.parent_path()}) {
    set(parent / "cgroup.subtree_control", "+memory +pids");
    if (!has_word(parent / "cgroup.subtree_control", "memory") ||
        !has_word(parent / "cgroup.subtree_control", "pids") ||
        !can_make_group(parent, "memory.max"))
      continue;
    found.version = Version::kV2;
    found.memory = found.pids = parent;
    return found;
  }
  found.reason = concat("no group with memory and pids controllers can be made in ", own.string());
  return found;
}

void remove_stale_cgroups(const CgroupHierarchy& hierarchy) {
  if (hierarchy.version == Version::kNone) return;
  const std::string prefix = "moerl-";
  for (const fs::path& parent : {hierarchy.memory, hierarchy.pids}) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
      const std::string name = entry.path().filename();
      const pid_t owner = name.starts_with(prefix) ? std::atoi(name.c_str() + prefix.size()) : 0;
      // The kernel refuses to remove a group that is not empty.
      if (owner > 0 && ::kill(owner, 0) != 0 && errno == ESRCH) ::rmdir(entry.path().c_str());
    }
  }
}

std::string to_string(const CgroupHierarchy& hierarchy) {
  switch (hierarchy.version) {
    case Version::kV1:
      return "v1 (memory, pids)";
    case Version::kV2:
      return "v2 (memory, pids)";
    case Version::kNone:
      break;
  }
  return "none: " + hierarchy.reason;
}

Cgroup::Cgroup(const CgroupHierarchy& hierarchy, int64_t memory_bytes, int max_processes)
    : version_(hierarchy.version) {
  static std::atomic<unsigned> counter{0};
  const std::string name = concat("moerl-", ::getpid(), "-", counter.fetch_add(1));
  auto make = [&](const fs::path& parent) {
    const fs::path directory = parent / name;
    if (::mkdir(directory.c_str(), 0755) != 0)
      throw IoError(concat(directory.string(), ": mkdir: ", std::strerror(errno)));
    directories_.push_back(directory);
    return directory;
  };
  try {
    const fs::path first = make(hierarchy.memory);
    const fs::path second = version_ == Version::kV1 ? make(hierarchy.pids) : first;
    set_memory_limit(memory_bytes);
    require(second / "pids.max", std::to_string(max_processes));
    for (const fs::path& directory : directories_) {
      const fs::path file = directory / "cgroup.procs";
      procs_.emplace_back(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
      if (!procs_.back().is_open())
        throw IoError(concat(file.string(), ": ", std::strerror(errno)));
    }
  } catch (...) {
    for (const fs::path& directory : directories_) ::rmdir(directory.c_str());
    throw;
  }
}

void Cgroup::set_memory_limit(int64_t bytes) {
  const std::string memory = std::to_string(bytes);
  const fs::path& group = directories_[0];
  if (version_ == Version::kV2) {
    require(group / "memory.max", memory);
    set(group / "memory.swap.max", "0");
    return;
  }
  // There is a second limit, with swap, only where swap is counted; it may never be the smaller.
  const fs::path with_swap = group / "memory.memsw.limit_in_bytes";
  set(with_swap, memory);
  require(group / "memory.limit_in_bytes", memory);
  set(with_swap, memory);
}

Cgroup::~Cgroup() {
  procs_.clear();
  // A killed process leaves its group a moment after its parent was told.
  for (const fs::path& directory : directories_)
    for (int i = 0; i < 2000 && ::rmdir(directory.c_str()) != 0 && errno == EBUSY; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

std::vector<int> Cgroup::procs() const {
  std::vector<int> all;
  for (const UniqueFd& file : procs_) all.push_back(file.get());
  return all;
}

uint64_t Cgroup::num_oom_kills() const {
  std::ifstream in(directories_[0] /
                   (version_ == Version::kV1 ? "memory.oom_control" : "memory.events"));
  std::string word;
  for (uint64_t value = 0; in >> word >> value;)
    if (word == "oom_kill") return value;
  return 0;
}

}  // namespace moerl::reward
