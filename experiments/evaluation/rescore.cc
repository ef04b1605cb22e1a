#include "experiments/evaluation/rescore.h"

#include <future>
#include <map>

#include "common/check.h"
#include "common/file.h"
#include "experiments/evaluation/report/eval_report.h"
#include "reward/scorer.h"

namespace moerl::eval {
namespace {

/// The settings of the suites that are judged anew, with their new verifier.
std::map<std::string, SuiteSettings> change_settings(const RescoreRequest& request,
                                                     EvalSettings& settings) {
  std::map<std::string, SuiteSettings> changed;
  for (SuiteSettings& s : settings.suites) {
    if (!request.suite.empty() && s.suite != request.suite) continue;
    if (!request.verifier.empty()) s.verifier = request.verifier;
    if (request.has_options) {
      s.options = request.options;
    } else if (!request.verifier.empty()) {
      s.options.clear();
    }
    s.verifier_version = reward::kVerdictsVersion;
    changed[s.suite] = s;
  }
  if (changed.empty())
    throw ConfigError(concat(request.from.string(), " has no suite '", request.suite, "'"));
  return changed;
}

void judge_all(EvalFiles& files, const std::map<std::string, SuiteSettings>& suites,
               reward::Scorer& scorer) {
  constexpr size_t kInWork = 1024;
  std::map<std::pair<std::string, int64_t>, const ProblemRecord*> problems;
  for (const ProblemRecord& p : files.problems) problems[{p.suite, p.problem}] = &p;
  std::vector<std::future<reward::Verdict>> verdicts(files.records.size());
  const auto take = [&](size_t i) {
    if (!verdicts[i].valid()) return;
    EvalRecord& r = files.records[i];
    const reward::Verdict verdict = verdicts[i].get();
    r.status = verdict.status;
    r.score = verdict.score;
    r.parts = verdict.parts;
    r.extracted = verdict.extracted;
    r.detail = verdict.detail;
  };
  for (size_t i = 0; i < files.records.size(); ++i) {
    if (i >= kInWork) take(i - kInWork);
    const EvalRecord& r = files.records[i];
    const auto suite = suites.find(r.suite);
    if (suite == suites.end()) continue;
    const auto found = problems.find({r.suite, r.problem});
    if (found == problems.end())
      throw IoError(concat("problems.jsonl lacks problem ", r.problem, " of ", r.suite));
    const ProblemRecord& p = *found->second;
    auto promise = std::make_shared<std::promise<reward::Verdict>>();
    verdicts[i] = promise->get_future();
    scorer.submit({i,
                   suite->second.verifier,
                   {r.response, p.ground_truth, p.extra_info_json, p.data_source, p.prompt},
                   suite->second.options},
                  {}, [promise](std::exception_ptr error, reward::Verdict verdict) {
                    if (error)
                      promise->set_exception(error);
                    else
                      promise->set_value(std::move(verdict));
                  });
  }
  for (size_t i = 0; i < files.records.size(); ++i) take(i);
}

}  // namespace

std::vector<Summary> rescore(const RescoreRequest& request, int num_threads, int deadline_ms) {
  const auto registry = reward::make_verifier_registry();
  if (std::filesystem::exists(request.to / "eval.json"))
    throw ConfigError(concat(request.to.string(), " holds an evaluation already"));
  EvalFiles files = EvalDirectory::read(request.from);
  EvalSettings settings =
      settings_from_json(files.config_json, (request.from / "eval.json").string());
  const auto changed = change_settings(request, settings);
  for (const auto& [name, s] : changed) registry->get(s.verifier)->check_options(s.options);
  reward::Scorer scorer(registry, {.num_threads = num_threads, .deadline_ms = deadline_ms});
  judge_all(files, changed, scorer);
  files.config_json = to_json(settings);
  EvalDirectory::write(request.to, files);
  std::vector<Summary> summaries = summaries_of(files, settings, registry, request.tie_rule);
  write_file_atomic(request.to / "results.json", results_json(settings, summaries));
  write_eval_report(request.to / "report.html", {{files, settings, summaries}});
  return summaries;
}

}  // namespace moerl::eval
