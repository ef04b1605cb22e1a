#pragma once
#include "common/process/unique_fd.h"

namespace moerl::reward {

/// Whose system calls are filtered.
enum class SeccompRole {
  kWarden,  ///< the trusted process of a sandbox, which makes namespaces
  kJob,     ///< untrusted code
};

/// A seccomp filter made by libseccomp, as a read-only memory file with the BPF program, as
/// bubblewrap's --seccomp takes it.
///
/// Both roles are refused ptrace, process_vm_*, keyrings, bpf, userfaultfd, perf_event_open,
/// io_uring, kernel modules, kexec, reboot, swap, clock setting and open_by_handle_at; a job also
/// mounts, namespaces (unshare, setns, clone with CLONE_NEW*) and sockets other than AF_UNIX. What
/// a harmless program may probe for gets EPERM, clone3 ENOSYS, so that libraries use clone; what
/// only an attack would call kills the process.
/// @throws IoError if libseccomp fails.
UniqueFd make_seccomp_filter(SeccompRole role);

}  // namespace moerl::reward
