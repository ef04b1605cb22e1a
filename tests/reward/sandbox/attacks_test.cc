#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <functional>

#include "reward/sandbox/sandbox.h"
#include "tests/reward/sandbox/sandboxes.h"

namespace moerl::reward {
namespace {

using testing::expect_clean;
using testing::milliseconds;
using testing::SandboxTest;
using testing::script;

using AttackTest = SandboxTest;

/// A program that eats something, and how it must end.
struct Glutton {
  const char* name;
  const char* source;
  std::vector<JobStop> stops;
};

const std::vector<Glutton>& gluttons() {
  using enum JobStop;
  static const std::vector<Glutton> all = {
      // Each of its processes comes to pages of its own.
      {"fork bomb",
       "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
       {kWall, kMemory}},
      {"thread bomb",
       "import threading, time\nwhile True:\n"
       "  try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
       "  except RuntimeError: time.sleep(0.1)",
       {kWall}},
      {"memory bomb", "x = []\nwhile True: x.append(bytearray(1 << 24))", {kMemory}},
      {"memory of children",
       "import os, time\nfor i in range(8):\n  if os.fork() == 0:\n"
       "    x = b'x' * (100 << 20)\n    time.sleep(99)\n"
       "try:\n  while True: os.wait()\nexcept OSError: pass",
       {kMemory}},
      {"tmpfs",
       "f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()",
       {kEnded}},
      {"tmpfs in many files",
       "for i in range(99): open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 24))",
       {kEnded}},
      {"inodes", "for i in range(10**6): open(f'/tmp/{i}', 'w').close()", {kEnded}},
      {"sparse file",
       "f = open('/tmp/f', 'wb')\nf.seek(1 << 40)\nf.write(b'x')\nf.flush()",
       {kEnded}},
      {"descriptors", "import os\nwhile True: os.dup(0)", {kEnded}},
      {"stdout flood", "while True: print('x' * 100000)", {kOutput}},
      {"stderr flood", "import sys\nwhile True: print('x' * 100000, file=sys.stderr)", {kOutput}},
      {"line without end", "import os\nwhile True: os.write(1, b'\\xff' * 65536)", {kOutput}},
      {"flood of a daemon",
       "import os\nif os.fork() == 0:\n  os.setsid()\n  while True: os.write(1, b'x' * 65536)\n"
       "import time; time.sleep(99)",
       {kOutput}},
      {"busy loop", "while True: pass", {kWall}},
      {"sleep", "import time; time.sleep(99)", {kWall}},
      {"deaf to signals",
       "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
       "  except (OSError, ValueError): pass\nwhile True: pass",
       {kWall}},
      {"stops itself",
       "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nos.kill(0, 19)\n"
       "import time; time.sleep(99)",
       {kWall}},
      {"closed streams",
       "import os, time\nfor i in range(3): os.close(i)\ntime.sleep(99)",
       {kWall}},
      {"zombies",
       "import os, time\nwhile True:\n  try:\n    if os.fork() == 0: os._exit(0)\n"
       "  except OSError: time.sleep(0.1)",
       {kWall}},
      {"deep recursion in C",
       "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor i in range(10**6): x = [x]\nrepr(x)",
       {kEnded, kWall}},
      {"huge number", "x = 9 ** 9 ** 9", {kWall}}};
  return all;
}

Job glutton_job(const Glutton& glutton) {
  // What another limit must stop gets time to reach it on a busy machine.
  const bool until_wall =
      std::find(glutton.stops.begin(), glutton.stops.end(), JobStop::kWall) != glutton.stops.end();
  Job job = script(glutton.source, milliseconds(until_wall ? 500 : 20'000));
  job.limits.memory_bytes = int64_t{256} << 20;
  job.limits.max_stdout_bytes = 1 << 20;
  return job;
}

TEST_F(AttackTest, GluttonsAreCut) {
  Sandbox sandbox(standard_isolation());
  for (const Glutton& glutton : gluttons()) {
    SCOPED_TRACE(glutton.name);
    const JobResult result = sandbox.run(glutton_job(glutton));
    EXPECT_NE(std::find(glutton.stops.begin(), glutton.stops.end(), result.stop),
              glutton.stops.end())
        << static_cast<int>(result.stop) << result.detail << result.err;
    if (result.stop == JobStop::kEnded) {
      EXPECT_NE(result.code, 0);
    }
    EXPECT_LE(result.out.size(), size_t{1} << 20);
    if (!sandbox.is_usable()) GTEST_FAIL() << "the sandbox was lost: " << result.detail;
    expect_clean(sandbox);
  }
}

TEST_F(AttackTest, MemoryIsWatchedWithoutControlGroups) {
  IsolationConfig config = standard_isolation();
  config.cgroups = {};
  Sandbox sandbox(config);
  for (const Glutton& glutton : gluttons()) {
    if (glutton.stops[0] != JobStop::kMemory) continue;
    EXPECT_EQ(sandbox.run(glutton_job(glutton)).stop, JobStop::kMemory) << glutton.name;
    expect_clean(sandbox);
  }
  // Nor is a fork bomb bounded by a control group.
  EXPECT_NE(sandbox.run(glutton_job(gluttons()[0])).stop, JobStop::kEnded);
  expect_clean(sandbox);
}

/// A way out, and a defence without which it is one. The program prints BREACH if it got out.
struct Escape {
  const char* name;
  std::string source;
  std::function<void(IsolationConfig&)> open_door;
};

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}
std::function<void(IsolationConfig&)> warden_without(const std::string& line,
                                                     const std::string& instead = "pass") {
  return [=](IsolationConfig& config) { replace(config.warden, line, instead); };
}
/// Removes `count` arguments of bubblewrap from `first` on.
std::function<void(IsolationConfig&)> bwrap_without(const std::string& first,
                                                    const std::string& second = "",
                                                    ptrdiff_t count = 1) {
  return [=](IsolationConfig& config) {
    auto& words = config.bwrap_arguments;
    auto at = std::find(words.begin(), words.end(), first);
    while (at != words.end() && !second.empty() && *(at + 1) != second)
      at = std::find(at + 1, words.end(), first);
    ASSERT_NE(at, words.end()) << first;
    words.erase(at, at + count);
  };
}
std::function<void(IsolationConfig&)> both(std::function<void(IsolationConfig&)> first,
                                           std::function<void(IsolationConfig&)> second) {
  return [=](IsolationConfig& config) {
    first(config);
    second(config);
  };
}

const std::string kSystem =
    "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def breach_if(x):\n  if x: print('BREACH')\n";

std::vector<Escape> escapes() {
  const auto no_seccomp = warden_without("        install_seccomp()\n", "");
  // Both filters: what follows "--" is the program, and the filter of the container its argument.
  const auto no_filters = both(no_seccomp, [](IsolationConfig& config) {
    config.bwrap_arguments.insert(config.bwrap_arguments.end(),
                                  {"--", config.python, "-s", "-c", config.warden});
  });
  const auto no_drop = warden_without("        drop_capabilities()\n", "");
  const std::string proc_mount =
      "    call(libc.mount, b\"tmpfs\", b\"/proc\", b\"tmpfs\", MS_RDONLY | MS_NOSUID | MS_NODEV | "
      "MS_NOEXEC,\n         b\"size=4k,nr_inodes=1\")\n";
  return {
      {"environment of the launcher",
       kSystem + "breach_if(os.path.exists('/proc/1/environ') or os.path.exists('/proc/kcore'))",
       warden_without(proc_mount, "")},
      {"command line of the launcher",
       kSystem + "import glob\nfor n in glob.glob('/proc/*/cmdline'): breach_if(open(n).read())",
       warden_without(proc_mount, "")},
      {"inherited descriptors",
       kSystem +
           "for i in range(3, 256):\n  try: os.fstat(i); print('BREACH')\n  except OSError: pass",
       warden_without("    close_descriptors(len(wanted))\n", "")},
      {"network", kSystem + "import socket\nsocket.socket(socket.AF_INET); print('BREACH')",
       no_seccomp},
      {"network of version 6",
       kSystem + "import socket\nsocket.socket(socket.AF_INET6); print('BREACH')", no_seccomp},
      {"netlink",
       kSystem +
           "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW); print('BREACH')",
       no_seccomp},
      {"mount", kSystem + "breach_if(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0)",
       both(no_seccomp, no_drop)},
      {"umount", kSystem + "breach_if(libc.umount2(b'/tmp', 2) == 0)", both(no_seccomp, no_drop)},
      {"chroot", kSystem + "os.mkdir('/tmp/x')\nos.chroot('/tmp/x'); print('BREACH')",
       both(both(no_seccomp, no_drop),
            [](IsolationConfig& config) {
              auto& words = config.bwrap_arguments;
              words.insert(std::find(words.begin(), words.end(), "--cap-add"),
                           {"--cap-add", "CAP_SYS_CHROOT"});
            })},
      {"names of hosts",
       kSystem + "import socket\nsocket.getaddrinfo('localhost', 80); print('BREACH')",
       [](IsolationConfig& config) {
         config.bwrap_arguments.insert(config.bwrap_arguments.end() - 2,
                                       {"--ro-bind", "/etc/hosts", "/etc/hosts"});
       }},
      {"watching files",
       kSystem + "fd = libc.inotify_init()\n"
                 "for p in (b'/etc/passwd', b'/work', b'/root', b'/home', b'/proc/1'):\n"
                 "  breach_if(libc.inotify_add_watch(fd, p, 0xfff) >= 0)",
       [](IsolationConfig& config) {
         config.bwrap_arguments.insert(config.bwrap_arguments.end() - 2,
                                       {"--ro-bind", "/etc", "/etc"});
       }},
      {"user namespace", kSystem + "breach_if(libc.unshare(0x10000000) == 0)",
       both(no_seccomp, bwrap_without("--disable-userns"))},
      {"io_uring",
       kSystem + "breach_if(libc.syscall(425, 1, ctypes.create_string_buffer(120)) >= 0)",
       no_filters},
      {"ptrace", kSystem + "breach_if(libc.ptrace(0, 0, 0, 0) == 0)", no_filters},
      {"keyring", kSystem + "breach_if(libc.syscall(250, 0, -3, 0) >= 0)", no_filters},
      {"bpf", kSystem + "breach_if(libc.syscall(321, 0, 0, 0) >= 0)", nullptr},
      {"userfaultfd", kSystem + "breach_if(libc.syscall(323, 1) >= 0)", no_filters},
      {"memory of others", kSystem + "breach_if(libc.syscall(310, 1, 0, 0, 0, 0, 0) >= 0)",
       no_filters},
      {"clock", kSystem + "import time\ntime.clock_settime(0, 0.0); print('BREACH')", nullptr},
      {"write outside of /tmp",
       kSystem + "for d in ('/', '/dev', '/dev/shm', '/usr', '/usr/bin', '/etc', '/home'):\n"
                 "  try: open(d + '/x', 'w'); print('BREACH')\n  except OSError: pass",
       bwrap_without("--remount-ro", "/dev", 2)},
      {"files of the machine",
       kSystem + "breach_if(any(map(os.path.exists, ('/etc/passwd', '/etc/shadow', '/root', "
                 "'/home', '/work', '/var', '/sys', '/run'))))",
       [](IsolationConfig& config) {
         config.bwrap_arguments.insert(config.bwrap_arguments.end() - 2,
                                       {"--ro-bind", "/etc", "/etc"});
       }},
      {"devices",
       kSystem + "breach_if(set(os.listdir('/dev')) & {'vda', 'sda', 'mem', 'kmsg', 'kvm'})",
       [](IsolationConfig& config) {
         bwrap_without("--remount-ro", "/dev", 2)(config);
         config.bwrap_arguments.insert(config.bwrap_arguments.end() - 2,
                                       {"--dev-bind", "/dev", "/dev"});
       }},
      {"identity of root", kSystem + "os.setuid(0); print('BREACH')", nullptr},
      {"privileges by a set-user-id program",
       kSystem +
           "import subprocess\nout = subprocess.run(['/usr/bin/su', '-c', 'id'], "
           "capture_output=True, stdin=subprocess.DEVNULL).stdout\nbreach_if(b'uid=0' in out)",
       nullptr},
      {"kill everything",
       kSystem + "for p in (-1, 1, os.getppid()):\n  try: os.kill(p, 9)\n  except OSError: pass\n"
                 "breach_if(os.getppid() != 0 or os.getpid() != 1)",
       warden_without("CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID)", "CLONE_NEWNS | CLONE_NEWIPC)")},
      {"file size", kSystem + "f = open('/tmp/f', 'wb')\nf.truncate(1 << 30); print('BREACH')",
       warden_without("\"fsize\", ", "")},
      {"number of processes",
       kSystem +
           "n = 0\nfor i in range(60):\n  try:\n    if os.fork() == 0: libc.pause()\n    n += 1\n"
           "  except OSError: break\nbreach_if(n > 40)",
       warden_without("\"nproc\", ", "")}};
}

TEST_F(AttackTest, EscapesFailAndSucceedWithoutTheirDefence) {
  Sandbox closed(standard_isolation());
  for (const Escape& escape : escapes()) {
    SCOPED_TRACE(escape.name);
    const JobResult held = closed.run(script(escape.source, milliseconds(3'000)));
    EXPECT_EQ(held.out.find("BREACH"), std::string::npos) << held.out << held.err;
    expect_clean(closed);
    if (!escape.open_door) continue;
    IsolationConfig config = standard_isolation();
    escape.open_door(config);
    Sandbox open(config);
    const JobResult broken = open.run(script(escape.source, milliseconds(3'000)));
    EXPECT_TRUE(broken.out.find("BREACH") != std::string::npos || !open.is_usable())
        << "the attack proves nothing: " << broken.err << broken.detail;
  }
}

TEST_F(AttackTest, SocketsOfTheMachineAreOutOfReach) {
  const std::string name = "moerl-attack-" + std::to_string(::getpid());
  sockaddr_un address{.sun_family = AF_UNIX};
  std::copy(name.begin(), name.end(), address.sun_path + 1);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  const Job job = script("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0" + name +
                         "')\nprint('BREACH')");
  Sandbox closed(standard_isolation());
  EXPECT_EQ(closed.run(job).out, "");
  expect_clean(closed);
  IsolationConfig config = standard_isolation();
  config.bwrap_arguments.insert(config.bwrap_arguments.begin() + 1, "--share-net");
  Sandbox open(config);
  EXPECT_EQ(open.run(job).out, "BREACH\n");
}

TEST_F(AttackTest, SignalToTheProcessGroupStaysInside) {
  const Job job = script("import os\nos.kill(0, 9)\nprint('alive')");
  Sandbox closed(standard_isolation());
  EXPECT_EQ(closed.run(job).out, "alive\n");
  IsolationConfig config = standard_isolation();
  replace(config.warden, "        os.setsid()\n", "");
  Sandbox open(config);
  EXPECT_EQ(open.run(job).stop, JobStop::kFailed);
  EXPECT_FALSE(open.is_usable());
}

TEST_F(AttackTest, NothingPassesToTheNextJob) {
  Sandbox sandbox(standard_isolation());
  sandbox.run(
      script("import os, ctypes\n"
             "open('/tmp/json.py', 'w').write('print(\"BREACH\")')\n"
             "os.mkfifo('/tmp/out'); os.symlink('/etc/passwd', '/tmp/link')\n"
             "libc = ctypes.CDLL(None)\nlibc.shmget(77, 4096, 0o1777)\n"
             "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    libc.sleep(99)\n"));
  expect_clean(sandbox);
  const JobResult next =
      sandbox.run(script("import sys, os, ctypes\nsys.modules.pop('json', None)\nimport json\n"
                         "print(ctypes.CDLL(None).shmget(77, 4096, 0), os.listdir('/tmp'))"));
  EXPECT_EQ(next.out, "-1 ['main.py']\n") << next.err;
}

TEST_F(AttackTest, CollectedFileIsPlainOrNothing) {
  Sandbox sandbox(standard_isolation());
  for (const char* source :
       {"import os; os.symlink('/usr/bin/python3', '/tmp/out')", "import os; os.mkfifo('/tmp/out')",
        "import os; os.mkdir('/tmp/out')", "import os; os.symlink('out', '/tmp/out')"}) {
    Job job = script(source);
    job.collect = "out";
    const JobResult result = sandbox.run(job);
    EXPECT_EQ(result.stop, JobStop::kEnded);
    EXPECT_EQ(result.collected, "") << source;
  }
}

TEST_F(AttackTest, InputThatIsNeverReadOrHuge) {
  Sandbox sandbox(standard_isolation());
  Job job = script("print('done')");
  job.input = std::string(50'000'000, 'x');
  EXPECT_EQ(sandbox.run(job).out, "done\n");
  job.source = "import sys; print(len(sys.stdin.read()))";
  EXPECT_EQ(sandbox.run(job).out, "50000000\n");
  // What it reads is its own copy, and it cannot be changed.
  job.source = "import os\ntry: os.write(0, b'y'); print('BREACH')\nexcept OSError: print('held')";
  EXPECT_EQ(sandbox.run(job).out, "held\n");
}

}  // namespace
}  // namespace moerl::reward
