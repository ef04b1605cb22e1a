#include "experiments/metrics_log.h"

#include <chrono>
#include <cmath>
#include <sstream>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"

namespace moerl {
namespace {

std::string to_line(const StepMetrics& metrics) {
  nlohmann::ordered_json line;
  line["training/global_step"] = metrics.step;
  line["stage"] = metrics.stage;
  for (const auto& [name, value] : metrics.values) {
    if (std::isfinite(value)) {
      line[name] = value;
    } else {
      line[name] = nullptr;
    }
  }
  return line.dump() + "\n";
}

StepMetrics from_line(const std::string& text, const std::filesystem::path& path, int64_t number) {
  StepMetrics metrics;
  const nlohmann::json line = try_parse_json(text);
  if (!line.is_object() || !line.contains("training/global_step") ||
      !line["training/global_step"].is_number_integer() ||
      (line.contains("stage") && !line["stage"].is_string()))
    throw IoError(concat(path.string(), ":", number,
                         ": expected a JSON object with the integer training/global_step and "
                         "the text stage"));
  for (const auto& [name, value] : line.items()) {
    if (name == "training/global_step") {
      metrics.step = value.get<int64_t>();
    } else if (name == "stage") {
      metrics.stage = value.get<std::string>();
    } else {
      metrics.values[name] = value.is_number() ? value.get<double>() : std::nan("");
    }
  }
  return metrics;
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

bool is_timing_metric(const std::string& name) {
  return name.starts_with("timing_s/") || name.starts_with("perf/");
}

std::vector<StepMetrics> MetricsLog::read(const std::filesystem::path& run_directory) {
  const std::filesystem::path path = run_directory / "metrics.jsonl";
  std::vector<StepMetrics> history;
  if (!std::filesystem::exists(path)) return history;
  const std::string text = read_file(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut by a crash while it was written
    history.push_back(from_line(text.substr(begin, end - begin), path, ++number));
    begin = end + 1;
  }
  return history;
}

MetricsLog::MetricsLog(const std::filesystem::path& run_directory, int64_t last_step)
    : path_(run_directory / "metrics.jsonl"),
      tensorboard_(std::make_unique<TensorBoardWriter>(run_directory / "tensorboard")) {
  std::string kept;
  for (StepMetrics& metrics : read(run_directory)) {
    if (metrics.step > last_step) continue;
    kept += to_line(metrics);
    tensorboard_->add_scalars(metrics.step, now_s(), metrics.values);
    history_.push_back(std::move(metrics));
  }
  write_file_atomic(path_, kept);
  file_.open(path_, std::ios::app | std::ios::binary);
  if (!file_) throw IoError(concat("cannot write ", path_.string()));
}

void MetricsLog::add(const StepMetrics& metrics) {
  file_ << to_line(metrics) << std::flush;
  if (!file_) throw IoError(concat("cannot write ", path_.string()));
  tensorboard_->add_scalars(metrics.step, now_s(), metrics.values);
  history_.push_back(metrics);
}

}  // namespace moerl
