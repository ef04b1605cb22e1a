#include "experiments/evaluation/export/export.h"

#include <ctime>
#include <map>

#include "common/check.h"
#include "common/file.h"

namespace moerl::eval {
namespace {

struct Format {
  std::string name;
  ExportFiles (*write)(const ReportInput&, const std::string& time);
};
const std::vector<Format>& formats() {
  static const std::vector<Format> all = {
      {"lm-eval", to_lm_eval}, {"lighteval", to_lighteval}, {"inspect", to_inspect}};
  return all;
}

std::string utc_time() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  return text;
}

}  // namespace

std::vector<std::string> export_formats() {
  std::vector<std::string> names;
  for (const Format& format : formats()) names.push_back(format.name);
  return names;
}

std::vector<TaskRecords> task_records(const ReportInput& evaluation) {
  std::vector<TaskRecords> tasks;
  std::map<std::string, size_t> index;
  for (const SuiteSettings& s : evaluation.settings.suites) {
    index[s.suite] = tasks.size();
    tasks.push_back({.settings = &s, .summary = nullptr, .problems = {}, .samples = {}});
  }
  for (const Summary& s : evaluation.summaries)
    if (s.group.empty()) tasks.at(index.at(s.suite)).summary = &s;
  for (const ProblemRecord& p : evaluation.files.problems) {
    tasks.at(index.at(p.suite)).problems.push_back(&p);
    tasks.at(index.at(p.suite)).samples.emplace_back();
  }
  for (const EvalRecord& r : evaluation.files.records)
    tasks.at(index.at(r.suite)).samples.at(static_cast<size_t>(r.problem)).push_back(&r);
  return tasks;
}

std::vector<std::filesystem::path> export_evaluation(const ReportInput& evaluation,
                                                     const std::string& format,
                                                     const std::filesystem::path& folder) {
  for (const Format& f : formats()) {
    if (f.name != format) continue;
    std::vector<std::filesystem::path> written;
    for (const auto& [name, content] : f.write(evaluation, utc_time())) {
      written.push_back(folder / name);
      std::filesystem::create_directories(written.back().parent_path());
      write_file_atomic(written.back(), content);
    }
    return written;
  }
  check(false, "export format is '", format, "', expected lm-eval, lighteval or inspect");
  return {};
}

}  // namespace moerl::eval
