#include "reward/verifiers/code_run.h"

#include <algorithm>
#include <csignal>
#include <random>

#include "common/check.h"
#include "common/json.h"
#include "reward/utf8.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/code_output.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kCompileTime{30'000};
constexpr int64_t kCompileMemory = int64_t{1} << 30;
/// The tests outlive the program that they wait for.
constexpr milliseconds kTestsGrace{1'000};
/// A sandbox may have been lost to something else on the machine; a job may be repeated.
constexpr int kAttempts = 2;
constexpr size_t kDetailBytes = 400;

std::string tail(const std::string& text) {
  const std::string_view stripped = strip(text);
  return std::string(stripped.substr(stripped.size() - std::min(stripped.size(), kDetailBytes)));
}

std::string quote(std::string_view text) {
  return concat("'", truncate_utf8(strip(text), kDetailBytes / 2), "'");
}

/// A program that was refused memory says so itself, where its limit is one of address space.
bool says_out_of_memory(const JobResult& result) {
  return result.err.find("MemoryError") != std::string::npos ||
         result.err.find("bad_alloc") != std::string::npos;
}

/// The outcome of a job that did not end with code 0.
TestOutcome failed_job(const JobResult& result, const JobLimits& limits, const char* what) {
  switch (result.stop) {
    case JobStop::kWall:
      return {VerdictStatus::kTimeout,
              concat(what, " ran longer than ", limits.wall.count(), " ms")};
    case JobStop::kMemory:
      return {VerdictStatus::kLimit,
              concat(what, " needed more memory than ", limits.memory_bytes >> 20, " MB")};
    case JobStop::kOutput:
      return {VerdictStatus::kLimit, concat(what, " wrote more than it may")};
    default:
      break;
  }
  if (result.code == -SIGXCPU || (result.code == -SIGKILL && result.cpu_time >= limits.cpu))
    return {VerdictStatus::kTimeout,
            concat(what, " used more than ", limits.cpu.count(), " s of CPU")};
  if (says_out_of_memory(result))
    return {VerdictStatus::kLimit, concat(what, " ran out of memory: ", tail(result.err))};
  return {VerdictStatus::kIncorrect,
          result.code < 0 ? concat(what, " ended by signal ", -result.code, ": ", tail(result.err))
                          : concat(what, " ended with code ", result.code, ": ", tail(result.err))};
}

std::string make_nonce() {
  std::random_device random;
  return concat(random(), "-", random());
}

}  // namespace

CodeRun::CodeRun(SandboxPool& pool, CodeLanguage language, std::string_view code,
                 const CodeTests& tests, const CodeLimits& limits, const WorkBudget& budget)
    : pool_(pool), language_(language), tests_(tests), limits_(limits), budget_(budget) {
  program_ = tests.prefix.empty() ? std::string(code) : concat(tests.prefix, "\n", code);
  if (language == CodeLanguage::kCpp) compile();
}

JobLimits CodeRun::job_limits() const {
  budget_.check();
  JobLimits limits;
  limits.wall = std::min(limits_.timeout, budget_.time_left());
  limits.cpu = std::chrono::ceil<std::chrono::seconds>(limits_.timeout);
  limits.memory_bytes = limits_.memory_bytes;
  return limits;
}

JobResult CodeRun::run_job(const Job& job) const {
  JobResult result;
  for (int i = 0; i < kAttempts; ++i) {
    result = pool_.acquire(SandboxUse::kPrograms)->run(job, budget_.stop_token());
    budget_.check();
    if (result.stop != JobStop::kFailed) return result;
  }
  throw std::runtime_error("sandbox: " + result.detail);
}

std::pair<JobResult, JobResult> CodeRun::run_joined(const Job& program, const Job& tests) const {
  std::pair<JobResult, JobResult> results;
  for (int i = 0; i < kAttempts; ++i) {
    const SandboxPool::Lease home = pool_.acquire(SandboxUse::kPrograms);
    const SandboxPool::Lease desk = pool_.acquire(SandboxUse::kTests);
    results = Sandbox::run_joined(*home, program, *desk, tests, budget_.stop_token());
    budget_.check();
    if (results.first.stop != JobStop::kFailed && results.second.stop != JobStop::kFailed)
      return results;
  }
  throw std::runtime_error("sandbox: " + results.first.detail + results.second.detail);
}

void CodeRun::compile() {
  Job job{.kind = JobKind::kExecute,
          .argv = {"/usr/bin/g++", "-std=gnu++20", "-O2", "-o", "main", "main.cpp"},
          .files = {{"main.cpp", {program_}}},
          .collect = "main"};
  job.limits = job_limits();
  job.limits.wall = std::min(kCompileTime, budget_.time_left());
  job.limits.cpu = std::chrono::ceil<std::chrono::seconds>(kCompileTime);
  job.limits.memory_bytes = kCompileMemory;
  job.limits.tmp_bytes = int64_t{256} << 20;
  const JobResult result = run_job(job);
  if (result.stop != JobStop::kEnded || result.code != 0)
    preparation_ = failed_job(result, job.limits, "the compiler");
  else if (result.collected.empty())
    preparation_ = {VerdictStatus::kIncorrect, "the compiler made no program"};
  program_ = result.collected;
}

TestOutcome CodeRun::run(const CodeTest& test) const {
  return test.kind == CodeTest::Kind::kStdio ? run_stdio(test) : run_function(test);
}

TestOutcome CodeRun::run_stdio(const CodeTest& test) const {
  Job job{.input = test.input, .limits = job_limits()};
  if (language_ == CodeLanguage::kPython) {
    job.source = program_;
  } else {
    job.kind = JobKind::kExecute;
    job.argv = {"/tmp/main"};
    job.files = {{"main", {program_, true}}};
  }
  const JobResult result = run_job(job);
  if (result.stop != JobStop::kEnded || result.code != 0)
    return failed_job(result, job.limits, "the program");
  if (same_output(result.out, test.output, limits_.tolerance)) return {};
  return {VerdictStatus::kIncorrect,
          concat("printed ", quote(result.out), ", expected ", quote(test.output))};
}

TestOutcome CodeRun::run_function(const CodeTest& test) const {
  if (language_ != CodeLanguage::kPython)
    return {VerdictStatus::kGoldError, "the tests call Python functions, the language is cpp"};
  const Job program{.kind = JobKind::kServe, .source = program_, .limits = job_limits()};
  Job tests{.kind = JobKind::kJudgeTests, .source = test.source, .names = tests_.names};
  if (test.kind == CodeTest::Kind::kCall) {
    tests.kind = JobKind::kJudgeCall;
    tests.source = test.call_json;
  }
  tests.nonce = make_nonce();
  tests.limits.wall = program.limits.wall + kTestsGrace;
  tests.limits.cpu = program.limits.cpu;
  const auto [ran, judged] = run_joined(program, tests);
  const json record = try_parse_json(judged.out);
  if (judged.stop != JobStop::kEnded || judged.code != 0 || !record.is_object() ||
      record.value("nonce", "") != tests.nonce)
    return failed_job(judged, tests.limits, "the tests");
  const std::string outcome = record.value("outcome", ""), detail = record.value("detail", "");
  if (outcome == "pass") return {};
  if (outcome == "invalid") return {VerdictStatus::kGoldError, detail};
  if (outcome == "lost" && ran.stop == JobStop::kEnded && ran.code == 0)
    return {VerdictStatus::kIncorrect, detail};
  if (outcome == "lost" && ran.stop != JobStop::kCancelled)
    return failed_job(ran, program.limits, "the program");
  return {VerdictStatus::kIncorrect, detail};
}

}  // namespace moerl::reward
