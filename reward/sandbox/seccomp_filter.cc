#include "reward/sandbox/seccomp_filter.h"

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "common/check.h"

namespace moerl::reward {
namespace {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

void require(int result, const char* what) {
  if (result < 0) throw IoError(concat("libseccomp: ", what, ": ", std::strerror(-result)));
}

void deny(const Filter& filter, uint32_t action, std::initializer_list<int> calls) {
  for (int call : calls) require(seccomp_rule_add(filter.get(), action, call, 0), "adding a rule");
}

// Calls for which no program of ours has a use.
constexpr std::initializer_list<int> kDangerous = {SCMP_SYS(bpf),
                                                   SCMP_SYS(kexec_load),
                                                   SCMP_SYS(kexec_file_load),
                                                   SCMP_SYS(init_module),
                                                   SCMP_SYS(finit_module),
                                                   SCMP_SYS(delete_module),
                                                   SCMP_SYS(userfaultfd),
                                                   SCMP_SYS(process_vm_readv),
                                                   SCMP_SYS(process_vm_writev),
                                                   SCMP_SYS(open_by_handle_at),
                                                   SCMP_SYS(reboot),
                                                   SCMP_SYS(swapon),
                                                   SCMP_SYS(swapoff),
                                                   SCMP_SYS(iopl),
                                                   SCMP_SYS(ioperm)};

constexpr std::initializer_list<int> kRefused = {SCMP_SYS(ptrace),
                                                 SCMP_SYS(keyctl),
                                                 SCMP_SYS(add_key),
                                                 SCMP_SYS(request_key),
                                                 SCMP_SYS(perf_event_open),
                                                 SCMP_SYS(io_uring_setup),
                                                 SCMP_SYS(io_uring_enter),
                                                 SCMP_SYS(io_uring_register),
                                                 SCMP_SYS(settimeofday),
                                                 SCMP_SYS(clock_settime),
                                                 SCMP_SYS(clock_adjtime),
                                                 SCMP_SYS(adjtimex),
                                                 SCMP_SYS(name_to_handle_at),
                                                 SCMP_SYS(fanotify_init),
                                                 SCMP_SYS(syslog),
                                                 SCMP_SYS(acct),
                                                 SCMP_SYS(quotactl),
                                                 SCMP_SYS(kcmp),
                                                 SCMP_SYS(pidfd_getfd),
                                                 SCMP_SYS(vhangup),
                                                 SCMP_SYS(nfsservctl)};

constexpr std::initializer_list<int> kRefusedToJobs = {
    SCMP_SYS(mount),         SCMP_SYS(umount2),     SCMP_SYS(pivot_root),   SCMP_SYS(chroot),
    SCMP_SYS(unshare),       SCMP_SYS(setns),       SCMP_SYS(fsopen),       SCMP_SYS(fsmount),
    SCMP_SYS(fsconfig),      SCMP_SYS(fspick),      SCMP_SYS(move_mount),   SCMP_SYS(open_tree),
    SCMP_SYS(mount_setattr), SCMP_SYS(sethostname), SCMP_SYS(setdomainname)};

constexpr uint64_t kNewNamespace = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                   CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

void restrict_job(const Filter& filter) {
  deny(filter, SCMP_ACT_ERRNO(EPERM), kRefusedToJobs);
  // The flags of clone3 lie in memory, where a filter cannot look.
  deny(filter, SCMP_ACT_ERRNO(ENOSYS), {SCMP_SYS(clone3)});
  for (uint64_t bit = 1; bit <= kNewNamespace; bit <<= 1)
    if (kNewNamespace & bit)
      require(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit)),
              "adding a rule");
  require(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                           SCMP_A0(SCMP_CMP_NE, AF_UNIX)),
          "adding a rule");
}

}  // namespace

UniqueFd make_seccomp_filter(SeccompRole role) {
  const Filter filter(seccomp_init(SCMP_ACT_ALLOW), &seccomp_release);
  if (!filter) throw IoError("libseccomp: seccomp_init failed");
  deny(filter, SCMP_ACT_KILL_PROCESS, kDangerous);
  deny(filter, SCMP_ACT_ERRNO(EPERM), kRefused);
  if (role == SeccompRole::kJob) restrict_job(filter);

  UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.is_open()) throw IoError(concat("memfd_create: ", std::strerror(errno)));
  require(seccomp_export_bpf(filter.get(), file.get()), "exporting the filter");
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

}  // namespace moerl::reward
