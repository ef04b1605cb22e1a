#include "tests/testing/training_runs.h"

#include <sqlite3.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "testing/paths.h"

namespace moerl::testing {

std::filesystem::path moerl_program() { return std::filesystem::path(MOERL_BUILD_DIR) / "moerl"; }

std::string tiny_recipe() {
  return std::string(MOERL_SOURCE_DIR) + "/tests/e2e/tiny/countdown.yaml";
}

Outcome run_moerl(const Arguments& arguments, const Environment& environment,
                  const std::string& input) {
  return run_program(moerl_program(), arguments, environment, input);
}

Arguments train_arguments(const std::filesystem::path& run_directory, const Arguments& overrides,
                          const std::string& recipe) {
  Arguments arguments = {"train", recipe, "--run-dir", run_directory.string()};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  return arguments;
}

std::vector<nlohmann::json> read_metrics(const std::filesystem::path& run_directory) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(file_bytes(run_directory / "metrics.jsonl"));
  for (std::string text; std::getline(in, text);) {
    nlohmann::json line = parse_json(text), kept = nlohmann::json::object();
    for (const auto& [name, value] : line.items())
      if (!name.starts_with("timing_s/") && !name.starts_with("perf/") &&
          name.find("/latency_s/") == std::string::npos)
        kept[name] = value;
    lines.push_back(std::move(kept));
  }
  return lines;
}

std::vector<std::string> read_samples(const std::filesystem::path& run_directory) {
  const std::filesystem::path path = run_directory / "samples.sqlite";
  sqlite3* db = nullptr;
  sqlite3_stmt* query = nullptr;
  std::vector<std::string> rows;
  if (sqlite3_open(path.c_str(), &db) != SQLITE_OK ||
      sqlite3_prepare_v2(db,
                         "SELECT *, hex(token_ids), hex(log_probs) FROM samples ORDER BY step, "
                         "split, prompt_id, sample_index",
                         -1, &query, nullptr) != SQLITE_OK) {
    ADD_FAILURE() << path << ": " << sqlite3_errmsg(db);
  } else {
    while (sqlite3_step(query) == SQLITE_ROW) {
      std::string row;
      for (int i = 0; i < sqlite3_column_count(query); ++i) {
        const auto* text = sqlite3_column_type(query, i) == SQLITE_BLOB
                               ? nullptr
                               : reinterpret_cast<const char*>(sqlite3_column_text(query, i));
        row += std::string(sqlite3_column_name(query, i)) + "=" + (text ? text : "") + "|";
      }
      rows.push_back(std::move(row));
    }
  }
  sqlite3_finalize(query);
  sqlite3_close(db);
  return rows;
}

std::filesystem::path last_checkpoint(const std::filesystem::path& run_directory) {
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(run_directory / "checkpoints"))
    if (entry.path().extension() != ".tmp") all.push_back(entry.path());
  if (all.empty()) throw std::runtime_error(run_directory.string() + " has no checkpoint");
  return *std::max_element(all.begin(), all.end());
}

RunResult read_run(const std::filesystem::path& run_directory) {
  const std::filesystem::path checkpoint = last_checkpoint(run_directory);
  return {.metrics = read_metrics(run_directory),
          .samples = read_samples(run_directory),
          .weights = file_bytes(checkpoint / "model.safetensors"),
          .optimizer = file_bytes(checkpoint / "optimizer.safetensors"),
          .state = file_bytes(checkpoint / "state.json")};
}

RunResult train(const std::filesystem::path& run_directory, const Arguments& overrides,
                const Environment& environment, const std::string& recipe) {
  const Outcome outcome = run_moerl(train_arguments(run_directory, overrides, recipe), environment);
  if (outcome.exit_code != 0) {
    ADD_FAILURE() << "moerl train ended with " << outcome.exit_code << ":\n" << outcome.err;
    return {};
  }
  return read_run(run_directory);
}

::testing::AssertionResult same_run(const RunResult& a, const RunResult& b) {
  const auto differs = [] { return ::testing::AssertionFailure(); };
  if (a.metrics.empty() || b.metrics.empty()) return differs() << "a run has no metrics";
  for (size_t i = 0; i < std::min(a.metrics.size(), b.metrics.size()); ++i)
    if (a.metrics[i] != b.metrics[i])
      return differs() << "line " << i + 1
                       << " of metrics.jsonl: " << nlohmann::json::diff(a.metrics[i], b.metrics[i])
                       << " against " << a.metrics[i];
  if (a.metrics.size() != b.metrics.size())
    return differs() << a.metrics.size() << " and " << b.metrics.size() << " lines of metrics";
  for (size_t i = 0; i < std::min(a.samples.size(), b.samples.size()); ++i)
    if (a.samples[i] != b.samples[i])
      return differs() << "sample " << i << ":\n" << a.samples[i] << "\n" << b.samples[i];
  if (a.samples.size() != b.samples.size())
    return differs() << a.samples.size() << " and " << b.samples.size() << " samples";
  if (a.state != b.state) return differs() << "states:\n" << a.state << b.state;
  if (a.weights != b.weights) return differs() << "the weights differ";
  if (a.optimizer != b.optimizer) return differs() << "the optimizer states differ";
  return ::testing::AssertionSuccess();
}

}  // namespace moerl::testing
