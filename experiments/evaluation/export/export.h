#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/evaluation/report/eval_report.h"

namespace moerl::eval {

/// lm-eval, lighteval, inspect.
std::vector<std::string> export_formats();

/// Writes an evaluation as another tool would have, into a folder. Figures are moerl's own; each
/// suite becomes a task of the name moerl_<suite>. Times are those of the export.
///   lm-eval    lm-evaluation-harness: results_<time>.json, samples_<task>_<time>.jsonl
///   lighteval  results/<model>/results_<time>.json (details, which are parquet, are not written)
///   inspect    inspect_ai: <time>_<task>.json, an EvalLog of version 2 for each suite
/// @return the files. @throws std::invalid_argument for another format; IoError.
std::vector<std::filesystem::path> export_evaluation(const ReportInput& evaluation,
                                                     const std::string& format,
                                                     const std::filesystem::path& folder);

// One format each; `task_records` splits an evaluation by suite.
struct TaskRecords {
  const SuiteSettings* settings = nullptr;
  const Summary* summary = nullptr;  ///< of the whole suite
  std::vector<const ProblemRecord*> problems;
  std::vector<std::vector<const EvalRecord*>> samples;  ///< of each problem
};
std::vector<TaskRecords> task_records(const ReportInput& evaluation);

using ExportFiles = std::vector<std::pair<std::filesystem::path, std::string>>;
/// @param time  ISO 8601 in UTC, such as 2026-01-31T12:00:00.
ExportFiles to_lm_eval(const ReportInput& evaluation, const std::string& time);
ExportFiles to_lighteval(const ReportInput& evaluation, const std::string& time);
ExportFiles to_inspect(const ReportInput& evaluation, const std::string& time);

}  // namespace moerl::eval
