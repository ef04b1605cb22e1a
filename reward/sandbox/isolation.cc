#include "reward/sandbox/isolation.h"

#include <unistd.h>

#include "common/check.h"
#include "common/process/run_process.h"
#include "embedded/warden.h"
#include "reward/sandbox/sandbox.h"

namespace moerl::reward {
namespace {

std::string version_of(const std::string& program, const std::string& package) {
  if (::access(program.c_str(), X_OK) != 0)
    return concat("not found: ", program, " (Debian package ", package, ")");
  std::string text = run_process({.program = program, .arguments = {"--version"}}, "", {}).out;
  return text.substr(0, text.find('\n'));
}

}  // namespace

IsolationConfig standard_isolation() {
  IsolationConfig config;
  config.cgroups = find_cgroups();
  config.warden = kWardenSource;
  config.bwrap_arguments = {
      "--unshare-all", "--unshare-user", "--disable-userns", "--as-pid-1", "--die-with-parent",
      "--new-session", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
      // The trusted process makes the namespaces of each job.
      "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",  //
      "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG",
      "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "OPENBLAS_NUM_THREADS", "1",  //
      "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
      "--symlink", "usr/lib64", "/lib64", "--ro-bind-try", "/etc/alternatives", "/etc/alternatives",
      "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",  //
      "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--dir", "/tmp", "--chdir",
      "/tmp", "--remount-ro", "/"};
  return config;
}

IsolationReport inspect_isolation() {
  IsolationReport report;
  const IsolationConfig config = standard_isolation();
  report.bubblewrap = version_of(config.bwrap, "bubblewrap");
  report.python = version_of(config.python, "python3");
  report.compiler = version_of("/usr/bin/g++", "g++");
  report.cgroups = to_string(config.cgroups);
  if (report.bubblewrap.starts_with("not found") || report.python.starts_with("not found")) {
    report.problem = "code is run in a sandbox only: install bubblewrap and python3";
    report.user_namespaces = report.seccomp = "not tried";
    return report;
  }
  try {
    const JobResult result = Sandbox(config).run({.source = "print(6 * 7)"});
    if (result.stop == JobStop::kEnded && result.out == "42\n") {
      report.user_namespaces = report.seccomp = "work";
      return report;
    }
    report.problem = "a sandbox starts and does not run a program: " + result.detail + result.err;
  } catch (const std::exception& error) {
    report.problem = concat(
        error.what(),
        "; code is run in a sandbox only, which needs bubblewrap >= 0.8, unprivileged "
        "user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0; "
        "in a container: its seccomp profile must allow them) and seccomp filters");
  }
  report.user_namespaces = report.seccomp = "do not work";
  return report;
}

}  // namespace moerl::reward
