#pragma once
#include <filesystem>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "experiments/evaluation/records/eval_record.h"

namespace moerl::eval {

/// Names one sample: suite, problem, sample. Also the order of samples.jsonl, with suites in the
/// order of the evaluation.
using SampleKey = std::tuple<std::string, int64_t, int64_t>;
inline SampleKey key_of(const EvalRecord& r) { return {r.suite, r.problem, r.sample}; }

/// What an evaluation has left.
struct EvalFiles {
  std::string config_json;              ///< eval.json
  std::vector<ProblemRecord> problems;  ///< suites in order, problems ascending
  std::vector<EvalRecord> records;      ///< the same order, samples ascending
};

/// The folder of one evaluation:
///   eval.json       what was asked for; a function of it and the weights is all the rest
///   problems.jsonl  one line a problem
///   samples.jsonl   one line a generation, in canonical order; there once all are
///   results.json, report.html
/// Until then records are appended to samples.partial.jsonl as they come, each in one write, so
/// that a killed process loses none that was recorded.
class EvalDirectory {
 public:
  /// Creates the folder or goes on in it, and takes its lock: one process an evaluation.
  /// @throws ConfigError if it holds another evaluation (it names the first field that differs);
  ///   IoError if another process works in it.
  EvalDirectory(const std::filesystem::path& path, const std::string& config_json,
                const std::vector<ProblemRecord>& problems);
  ~EvalDirectory();
  EvalDirectory(const EvalDirectory&) = delete;
  EvalDirectory& operator=(const EvalDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t num_recorded() const { return static_cast<int64_t>(recorded_.size()); }
  bool has(const SampleKey& key) const { return recorded_.contains(key); }
  /// Appends one record, unless it is there already. Not thread safe.
  void append(const EvalRecord& record);
  /// Writes samples.jsonl in canonical order and removes the partial file.
  /// @param num_samples  how many there must be.
  void complete(int64_t num_samples);

  /// Reads a complete evaluation. @throws IoError naming file and line, or saying that it is not
  /// complete.
  static EvalFiles read(const std::filesystem::path& path);
  static void write(const std::filesystem::path& path, const EvalFiles& files);

 private:
  void open_partial();

  std::filesystem::path path_;
  std::vector<ProblemRecord> problems_;
  std::set<SampleKey> recorded_;
  int lock_ = -1, partial_ = -1;
  int64_t unsynced_ = 0;
};

}  // namespace moerl::eval
