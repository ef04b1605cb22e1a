#pragma once
#include <chrono>
#include <string>
#include <utility>

#include "reward/sandbox/sandbox_pool.h"
#include "reward/verdict.h"
#include "reward/verifier.h"
#include "reward/verifiers/code_block.h"
#include "reward/verifiers/code_tests.h"

namespace moerl::reward {

struct CodeLimits {
  std::chrono::milliseconds timeout{6'000};
  int64_t memory_bytes = int64_t{512} << 20;
  double tolerance = 0;
};

/// What one test, or the compiler, said.
struct TestOutcome {
  /// kCorrect, kIncorrect, kTimeout, kLimit or kGoldError.
  VerdictStatus status = VerdictStatus::kCorrect;
  /// For people.
  std::string detail;
};

/// One answer, made ready to run: compiled, if its language is compiled.
class CodeRun {
 public:
  /// References are borrowed. @throws std::runtime_error if a sandbox fails.
  CodeRun(SandboxPool& pool, CodeLanguage language, std::string_view code, const CodeTests& tests,
          const CodeLimits& limits, const WorkBudget& budget);

  /// kCorrect, or why the answer cannot run at all.
  const TestOutcome& preparation() const { return preparation_; }
  /// Runs one test. @throws WorkBudgetSpent; std::runtime_error if a sandbox fails.
  TestOutcome run(const CodeTest& test) const;

 private:
  void compile();
  TestOutcome run_stdio(const CodeTest& test) const;
  TestOutcome run_function(const CodeTest& test) const;
  JobLimits job_limits() const;
  JobResult run_job(const Job& job) const;
  std::pair<JobResult, JobResult> run_joined(const Job& program, const Job& tests) const;

  SandboxPool& pool_;
  const CodeLanguage language_;
  std::string program_;  // source, or the compiled program
  const CodeTests& tests_;
  const CodeLimits limits_;
  const WorkBudget& budget_;
  TestOutcome preparation_;
};

}  // namespace moerl::reward
