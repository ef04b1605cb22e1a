#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/evaluation/compare.h"
#include "experiments/evaluation/records/eval_directory.h"
#include "experiments/evaluation/results.h"
#include "experiments/evaluation/summary.h"

namespace moerl::eval {

/// One evaluation of a report.
struct ReportInput {
  EvalFiles files;
  EvalSettings settings;
  std::vector<Summary> summaries;
};

/// Texts that a report carries at most, in bytes; beyond it only the first samples of each problem
/// are shown, and the page says so.
inline constexpr size_t kMaxReportBytes = size_t{48} << 20;

/// Writes one self-contained HTML page: figures with intervals, plots, every sample with its
/// thinking folded, search; two evaluations side by side with their comparison. The text of models
/// is data: it cannot become markup or script.
/// @param inputs  one, or two with `comparisons`.
void write_eval_report(const std::filesystem::path& path, const std::vector<ReportInput>& inputs,
                       const std::vector<SuiteComparison>& comparisons = {});

}  // namespace moerl::eval
