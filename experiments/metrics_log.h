#pragma once
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "experiments/tensorboard_writer.h"

namespace moerl {

/// One line of metrics.jsonl: what was measured at one training step.
struct StepMetrics {
  int64_t step = 0;  ///< training/global_step, over all stages; 0 is before training
  std::string stage;
  std::map<std::string, double> values;
};

/// metrics.jsonl of a run (one object a step, in order) and the TensorBoard events drawn from it.
/// Keys that begin with timing_s/ or perf/ depend on the machine; all others are a function of
/// recipe, seed and weights.
class MetricsLog {
 public:
  /// Opens the log of a run that goes on after `last_step`: lines of later steps are removed.
  /// @throws IoError, also for a line that is not an object.
  MetricsLog(const std::filesystem::path& run_directory, int64_t last_step);

  /// Appends one line and flushes it. A value that is not finite becomes null.
  void add(const StepMetrics& metrics);

  const std::vector<StepMetrics>& history() const { return history_; }

  /// The lines of metrics.jsonl; an unfinished last line is left out.
  static std::vector<StepMetrics> read(const std::filesystem::path& run_directory);

 private:
  std::vector<StepMetrics> history_;
  std::filesystem::path path_;
  std::ofstream file_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
};

/// True for metrics that two equal runs need not share.
bool is_timing_metric(const std::string& name);

}  // namespace moerl
