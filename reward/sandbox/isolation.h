#pragma once
#include <string>
#include <vector>

#include "reward/sandbox/cgroup.h"

namespace moerl::reward {

/// How to build a sandbox on this machine.
struct IsolationConfig {
  std::string bwrap = "/usr/bin/bwrap";
  std::string python = "/usr/bin/python3";
  CgroupHierarchy cgroups;
  /// The arguments of bubblewrap before the program.
  std::vector<std::string> bwrap_arguments;
  /// The program of the trusted process inside, in Python.
  std::string warden;
};

/// The isolation that every sandbox has, and the best control groups that this machine gives.
IsolationConfig standard_isolation();

/// What this machine has, for people.
struct IsolationReport {
  std::string bubblewrap, user_namespaces, seccomp, python, compiler, cgroups;
  /// Empty if untrusted code can be run; else what is missing and what to install or enable.
  std::string problem;
};

/// Starts a sandbox once to see whether it works.
IsolationReport inspect_isolation();

}  // namespace moerl::reward
