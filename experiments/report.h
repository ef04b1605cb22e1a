#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/metrics_log.h"
#include "experiments/recipe.h"
#include "experiments/sample_store.h"

namespace moerl {

/// Held-out accuracy before training and after every stage, as a text table.
std::string results_table(const Recipe& recipe, const std::vector<StepMetrics>& history);

/// Writes report.html into the run directory: results, curves, first and last samples side by side,
/// the recipe. One file without anything from elsewhere. @param samples  may be null.
void write_report(const std::filesystem::path& run_directory, const Recipe& recipe,
                  const std::vector<StepMetrics>& history, SampleStore* samples);

/// Text with &, <, > and quotes made safe for HTML.
std::string escape_html(const std::string& text);

}  // namespace moerl
