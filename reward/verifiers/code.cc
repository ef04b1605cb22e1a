#include "reward/verifiers/code.h"

#include "common/check.h"
#include "common/error.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/code_run.h"

namespace moerl::reward {
namespace {

constexpr size_t kMaxCodeBytes = size_t{1} << 20;

enum class Scoring { kAll, kFraction };

struct CodeOptions {
  AnswerScoring answer;
  CodeLanguage language;
  Scoring scoring;
  CodeLimits limits;
  bool untagged;
};

CodeOptions parse_options(const Options& options) {
  OptionReader reader("code", options);
  CodeOptions parsed;
  parsed.answer = read_answer_scoring(reader, 0);
  parsed.language = static_cast<CodeLanguage>(reader.choice("language", 0, {"python", "cpp"}));
  parsed.scoring = static_cast<Scoring>(reader.choice("scoring", 0, {"all", "fraction"}));
  parsed.limits.timeout = std::chrono::milliseconds(
      static_cast<int64_t>(reader.number("timeout_s", 6, 0.1, 3600) * 1000));
  parsed.limits.memory_bytes = static_cast<int64_t>(reader.number("memory_mb", 512, 64, 65536))
                               << 20;
  parsed.limits.tolerance = reader.number("tolerance", 0, 0, 1);
  parsed.untagged = reader.flag("untagged", false);
  reader.finish();
  return parsed;
}

}  // namespace

std::string_view CodeVerifier::description() const {
  return "programs pass tests in a sandbox; options language=python|cpp, scoring=all|fraction, "
         "timeout_s=6, memory_mb=512, tolerance=0, untagged=false, accuracy_weight=1, "
         "format_weight=0, format_rule=answer, prefix_open_think=false";
}

std::vector<std::string> CodeVerifier::part_names() const { return answer_part_names(); }

void CodeVerifier::check_options(const Options& options) const {
  parse_options(options);
  pool();
}

SandboxPool& CodeVerifier::pool() const {
  const std::lock_guard lock(mutex_);
  if (!pool_) {
    if (const IsolationReport report = inspect_isolation(); !report.problem.empty())
      throw FailedPrecondition("verifier 'code': " + report.problem);
    pool_ = std::make_unique<SandboxPool>(standard_isolation());
  }
  return *pool_;
}

Verdict CodeVerifier::score(const Sample& sample, const Options& options,
                            const WorkBudget& budget) const {
  const CodeOptions parsed = parse_options(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(parsed.answer, sample.response, status, extracted, std::move(detail));
  };
  CodeTests tests;
  CodeLanguage language = parsed.language;
  try {
    tests = parse_code_tests(sample.ground_truth, sample.extra_info_json);
    if (!tests.language.empty()) {
      const auto named = parse_language(tests.language);
      if (!named) throw CodeTestsError("the row's language is '" + tests.language + "'");
      language = *named;
    }
  } catch (const CodeTestsError& error) {
    return verdict(VerdictStatus::kGoldError, "", error.what());
  }

  const auto graded = graded_text(sample.response, parsed.answer.prefix_open_think);
  const auto code = graded ? last_code_block(*graded, language, parsed.untagged) : std::nullopt;
  if (!code) return verdict(VerdictStatus::kNoAnswer, "", "");
  if (code->size() > kMaxCodeBytes)
    return verdict(VerdictStatus::kLimit, *code, "the program is too long");

  size_t num_passed = 0;
  VerdictStatus status = VerdictStatus::kCorrect;
  std::string detail;
  const CodeRun run(pool(), language, *code, tests, parsed.limits, budget);
  auto fail = [&](const std::string& what, const TestOutcome& outcome) {
    if (status == VerdictStatus::kCorrect) detail = what + outcome.detail;
    if (status == VerdictStatus::kCorrect) status = outcome.status;
  };
  if (run.preparation().status != VerdictStatus::kCorrect) {
    fail("", run.preparation());
  } else {
    for (size_t i = 0; i < tests.tests.size(); ++i) {
      const TestOutcome outcome = run.run(tests.tests[i]);
      num_passed += outcome.status == VerdictStatus::kCorrect;
      if (outcome.status == VerdictStatus::kCorrect) continue;
      fail(concat("test ", i + 1, " of ", tests.tests.size(), ": "), outcome);
      if (parsed.scoring == Scoring::kAll || is_unscorable(status)) break;
    }
  }
  Verdict result = verdict(status, *code, std::move(detail));
  if (parsed.scoring == Scoring::kFraction && !is_unscorable(status)) {
    const double fraction =
        static_cast<double>(num_passed) / static_cast<double>(tests.tests.size());
    result.score += parsed.answer.accuracy_weight * (fraction - result.parts["accuracy"]);
    result.parts["accuracy"] = fraction;
  }
  return result;
}

}  // namespace moerl::reward
