#include "reward/sandbox/sandbox.h"

#include <atomic>
#include <thread>

#include "common/error.h"
#include "reward/sandbox/sandbox_pool.h"
#include "tests/reward/sandbox/sandboxes.h"

namespace moerl::reward {
namespace {

using testing::expect_clean;
using testing::milliseconds;
using testing::SandboxTest;
using testing::script;

TEST_F(SandboxTest, RunsAProgramWithInput) {
  Sandbox sandbox(standard_isolation());
  Job job =
      script("import sys\nprint(sum(map(int, input().split())))\nprint('x', file=sys.stderr)");
  job.input = "1 2 3\n";
  const JobResult result = sandbox.run(job);
  EXPECT_EQ(result.stop, JobStop::kEnded) << result.detail;
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "6\n");
  EXPECT_EQ(result.err, "x\n");
  EXPECT_GT(result.wall_time.count(), 0);
  expect_clean(sandbox);
}

TEST_F(SandboxTest, EndsLikeAnInterpreter) {
  Sandbox sandbox(standard_isolation());
  EXPECT_EQ(sandbox.run(script("import sys; sys.exit(7)")).code, 7);
  EXPECT_EQ(sandbox.run(script("import sys; sys.exit('why')")).err, "why\n");
  EXPECT_EQ(sandbox.run(script("import os; os._exit(9)")).code, 9);
  EXPECT_EQ(sandbox.run(script("import atexit; atexit.register(print, 'end')")).out, "end\n");
  EXPECT_EQ(sandbox.run(script("if __name__ == '__main__': print('main')")).out, "main\n");
  EXPECT_EQ(sandbox.run(script("import ctypes; ctypes.string_at(0)")).code, -SIGSEGV);
  const JobResult thread = sandbox.run(
      script("import threading, time\n"
             "threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()"));
  EXPECT_EQ(thread.out, "late\n");
  const JobResult error = sandbox.run(script("def f():\n  return 1 / 0\nf()"));
  EXPECT_EQ(error.code, 1);
  EXPECT_EQ(error.err,
            "Traceback (most recent call last):\n"
            "  File \"/tmp/main.py\", line 3, in <module>\n    f()\n"
            "  File \"/tmp/main.py\", line 2, in f\n    return 1 / 0\n           ~~^~~\n"
            "ZeroDivisionError: division by zero\n");
  EXPECT_NE(sandbox.run(script("x = (")).err.find("SyntaxError"), std::string::npos);
}

TEST_F(SandboxTest, IsTheSameEveryTime) {
  Sandbox sandbox(standard_isolation());
  const Job job = script("import random; print(random.random(), hash('text'), {'a', 'b', 'c'})");
  EXPECT_EQ(sandbox.run(job).out, sandbox.run(job).out);
}

TEST_F(SandboxTest, ExecutesProgramsAndHandsBackFiles) {
  Sandbox sandbox(standard_isolation());
  const Job job{.kind = JobKind::kExecute,
                .argv = {"/bin/sh", "/tmp/script"},
                .files = {{"script", {"cat a >b; echo $HOME"}}, {"a", {"content"}}},
                .collect = "b"};
  const JobResult result = sandbox.run(job);
  EXPECT_EQ(result.out, "/tmp\n") << result.err;
  EXPECT_EQ(result.collected, "content");
}

TEST_F(SandboxTest, TestsCallTheProgram) {
  Sandbox home(standard_isolation()), desk(standard_isolation());
  auto outcome = [&](const std::string& program, const std::string& tests) {
    return Sandbox::run_joined(home, {.kind = JobKind::kServe, .source = program}, desk,
                               {.kind = JobKind::kJudgeTests, .source = tests, .nonce = "n"})
        .second.out;
  };
  auto record = [](const std::string& outcome, const std::string& detail) {
    return R"({"nonce": "n", "outcome": ")" + outcome + R"(", "detail": ")" + detail + "\"}";
  };
  const std::string pass = record("pass", "");
  EXPECT_EQ(outcome("def f(x): return x + 1", "assert f(1) == 2\nassert f(2.5) == 3.5"), pass);
  EXPECT_EQ(outcome("def f(x): return x + 1", "assert f(1) == 3"),
            record("fail", "assert f(1) == 3"));
  EXPECT_EQ(outcome("", "assert f(1) == 3"), record("error", "NameError: name 'f' is not defined"));
  EXPECT_EQ(outcome("", "assert ("),
            record("invalid", "the tests do not compile: '(' was never closed (tests.py, line 1)"));
  // Every plain type survives the way there and back.
  EXPECT_EQ(
      outcome(
          "import collections\ndef f(x): return x",
          "from collections import *\nfrom fractions import Fraction\n"
          "for x in [None, True, 10**400, 0.1, float('inf'), 'é\\ud800', b'\\xff', (1, [2]), {3}, "
          "frozenset([4]), {(5, 6): {'k': 7}}, 1j, deque([8]), Counter('aab'), "
          "OrderedDict(a=1), range(3, 9, 2), Fraction(1, 3)]:\n"
          "  assert f(x) == x and type(f(x)) is type(x), x"),
      pass);
  // Objects stay on their side, and can be used.
  EXPECT_EQ(outcome("class Node:\n  def __init__(self, v): self.v, self.next = v, None\n"
                    "def total(n): return n.v + (total(n.next) if n.next else 0)\n"
                    "def count(n):\n  for i in range(n): yield i",
                    "a = Node(1)\na.next = Node(2)\nassert total(a) == 3\nassert a.next.v == 2\n"
                    "assert list(count(3)) == [0, 1, 2]"),
            pass);
  EXPECT_EQ(outcome("def f(x): x.append(3); x.sort()", "x = [9, 1]\nf(x)\nassert x == [1, 3, 9]"),
            pass);
  EXPECT_EQ(
      outcome("def f(): raise ValueError('no')",
              "try:\n  f()\nexcept ValueError as e:\n  assert str(e) == 'no'\nelse:\n  assert 0"),
      pass);
  EXPECT_EQ(outcome("def sum(a, b): return a * b", "assert sum(3, 4) == 12"), pass);
}

TEST_F(SandboxTest, CancelEndsAJob) {
  Sandbox sandbox(standard_isolation());
  std::stop_source stop;
  std::jthread canceller([&] { stop.request_stop(); });
  const JobResult result =
      sandbox.run(script("import time; time.sleep(1000)", milliseconds(60'000)), stop.get_token());
  EXPECT_EQ(result.stop, JobStop::kCancelled);
  expect_clean(sandbox);
}

TEST_F(SandboxTest, LeavesNothingBehind) {
  const size_t cgroups = testing::num_cgroups_left();
  { Sandbox sandbox(standard_isolation()); }
  const size_t descriptors = testing::num_open_descriptors();
  pid_t pid = 0;
  {
    SandboxPool pool(standard_isolation());
    for (int i = 0; i < 3; ++i) pool.acquire(SandboxUse::kPrograms)->run(script("pass"));
    const SandboxPool::Lease first = pool.acquire(SandboxUse::kPrograms);
    pid = first->pid();
    EXPECT_NE(pool.acquire(SandboxUse::kPrograms)->pid(), pid);
    EXPECT_NE(pool.acquire(SandboxUse::kTests)->pid(), pid);
    first->run(script("import os\nfor i in range(5): os.fork()"));
  }
  EXPECT_EQ(testing::num_open_descriptors(), descriptors);
  EXPECT_EQ(testing::num_cgroups_left(), cgroups);
  EXPECT_EQ(testing::num_processes_below(pid), 0U);
}

TEST_F(SandboxTest, PoolReplacesASandboxThatDied) {
  SandboxPool pool(standard_isolation());
  const pid_t pid = pool.acquire(SandboxUse::kPrograms)->pid();
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  SandboxPool::Lease next = pool.acquire(SandboxUse::kPrograms);
  while (next->pid() == pid) {  // it is not dead yet
    next.reset();
    next = pool.acquire(SandboxUse::kPrograms);
  }
  EXPECT_EQ(next->run(script("print(1)")).out, "1\n");
}

TEST_F(SandboxTest, ManyThreadsGetTheirOwnAnswers) {
  SandboxPool pool(standard_isolation());
  std::vector<std::thread> threads;
  std::atomic<int> num_right = 0;
  for (int i = 0; i < 16; ++i)
    threads.emplace_back([&, i] {
      for (int j = 0; j < 16; ++j) {
        const std::string number = std::to_string(100 * i + j);
        const JobResult result = pool.acquire(SandboxUse::kPrograms)
                                     ->run(script("print(" + number + ")", milliseconds(60'000)));
        num_right += result.out == number + "\n";
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_right, 256);
}

TEST_F(SandboxTest, SaysWhatBubblewrapSays) {
  IsolationConfig config = standard_isolation();
  config.bwrap_arguments.insert(config.bwrap_arguments.begin(), "--no-such-option");
  try {
    Sandbox sandbox(config);
    FAIL() << "expected IoError";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("--no-such-option"), std::string::npos)
        << error.what();
  }
  config.bwrap = "/nonexistent/bwrap";
  EXPECT_THROW(Sandbox{config}, IoError);
}

}  // namespace
}  // namespace moerl::reward
