// Sandboxed programs against plain ones, on two threads: each iteration runs `pass` to its end.
// Compare the items per second of the benchmarks of one run.
#include <benchmark/benchmark.h>

#include "common/process/run_process.h"
#include "reward/sandbox/sandbox_pool.h"

namespace moerl::reward {
namespace {

constexpr int kThreads = 2;

/// fork and exec of an interpreter, as a harness without a sandbox does it.
void plain_python(benchmark::State& state) {
  for (auto _ : state)
    run_process({.program = "/usr/bin/python3", .arguments = {"-c", "pass"}}, "", {});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(plain_python)->Threads(kThreads)->UseRealTime();

SandboxPool& pool() {
  static SandboxPool pool(standard_isolation());
  return pool;
}

void warm_sandboxed_python(benchmark::State& state) {
  if (const std::string problem = inspect_isolation().problem; !problem.empty())
    return state.SkipWithError(problem.c_str());
  pool().acquire(SandboxUse::kPrograms)->run({.source = "pass"});
  for (auto _ : state) pool().acquire(SandboxUse::kPrograms)->run({.source = "pass"});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(warm_sandboxed_python)->Threads(kThreads)->UseRealTime();

/// A container of its own for each program: what the pool saves.
void cold_sandboxed_python(benchmark::State& state) {
  if (const std::string problem = inspect_isolation().problem; !problem.empty())
    return state.SkipWithError(problem.c_str());
  const IsolationConfig config = standard_isolation();
  for (auto _ : state) Sandbox(config).run({.source = "pass"});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cold_sandboxed_python)->Threads(kThreads)->UseRealTime();

}  // namespace
}  // namespace moerl::reward
