#pragma once
#include <memory>
#include <mutex>

#include "reward/sandbox/sandbox_pool.h"
#include "reward/verifier.h"

namespace moerl::reward {

/// Programs, run against tests in a sandbox (reward/sandbox). The answer is the last closed fenced
/// block of the asked language in the graded text; the tests are those of parse_code_tests.
///
/// - Input/output tests: one fresh process for each test; it must end with code 0 and print what is
///   expected (same_output). The expected output never enters a sandbox.
/// - Function tests (Python): the program runs in one sandbox and answers calls; the test code, or
///   the expected value, is in another one, which never runs a program. Only plain data passes
///   between them, so early exits, forged records and objects with an __eq__ of their own cannot
///   pass a test.
///
/// Options: language=python|cpp (a row's own `language` wins); scoring=all (accuracy is 1 if every
/// test passes; stops at the first that does not) or fraction (passed/total); timeout_s=6 for each
/// test, wall and CPU; memory_mb=512; tolerance=0 for printed numbers; untagged=false: whether a
/// block without a mark counts; and those of AnswerScoring.
///
/// Status: that of the first test that did not pass: incorrect, timeout, or limit (memory, output).
/// A program that does not compile is incorrect. gold_error: the tests are missing or malformed.
class CodeVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "code"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  /// Also starts a sandbox once. @throws FailedPrecondition naming what to install or enable if
  /// this
  ///   machine cannot run one; code is never run without.
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;

 private:
  SandboxPool& pool() const;

  // The verdict does not depend on it: every job gets a fresh process, and namespaces of its own.
  mutable std::mutex mutex_;
  mutable std::unique_ptr<SandboxPool> pool_;
};

}  // namespace moerl::reward
