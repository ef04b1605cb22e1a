#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "experiments/evaluation/suite/data_cache.h"
#include "experiments/evaluation/summary.h"
#include "experiments/progress.h"
#include "kernels/exec_context.h"

namespace moerl::eval {

/// What `moerl eval` is asked for. Absent values are the suite's.
struct EvalRequest {
  std::filesystem::path model;      ///< a Hugging Face directory, a run, or a checkpoint
  std::vector<std::string> suites;  ///< names, paths of .yaml suites or of .jsonl rows, or val
  std::filesystem::path output;
  std::optional<int64_t> n, max_tokens, seed;
  std::optional<double> temperature, top_p;
  int64_t limit = 0;                 ///< problems of each suite; 0: all
  std::vector<std::string> workers;  ///< host:port of rollout workers; empty: this process samples
  std::string verifier;              ///< of suites that are .jsonl rows
  reward::Options options;           ///< of that verifier
  std::string chat_template;         ///< empty: the run's, or the model directory's
  std::string dtype;                 ///< empty: the run's, or bf16
  std::optional<double> kv_cache_gb;
  std::optional<int64_t> max_num_seqs;
  TieRule tie_rule = TieRule::kAverage;
};

/// Samples what the output folder lacks, scores it, and writes samples.jsonl, results.json and
/// report.html. Killed and started again with the same request, it goes on; the files are those of
/// an uninterrupted evaluation.
/// @return the figures.
/// @throws ConfigError (a suite or model that does not fit, a folder with another evaluation),
///   IoError, RpcError.
std::vector<Summary> run_evaluation(const EvalRequest& request, const DataCache& cache,
                                    ExecContext& ctx, int scoring_threads, Progress& progress);

}  // namespace moerl::eval
