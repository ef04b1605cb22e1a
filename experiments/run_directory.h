#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "policy/optim/adamw.h"
#include "policy/transformer.h"

namespace moerl {

/// Where a run stands between two steps; with weights and optimizer it is all that the rest depends
/// on.
struct RunState {
  int64_t global_step = 0;     ///< over all stages
  int64_t stage = 0;           ///< index of the stage that goes on
  int64_t stage_step = 0;      ///< steps done in it
  int64_t policy_version = 0;  ///< optimizer steps since the run began
  int64_t prompts_drawn =
      0;  ///< data cursor of the stage: training rows drawn so far, dropped groups included
};

/// The folder of one run:
///   config.resolved.yaml  metrics.jsonl  tensorboard/  samples.sqlite  report.html
///   checkpoints/step-000100/   a Hugging Face model directory, plus optimizer.safetensors and
///   state.json
class RunDirectory {
 public:
  /// Creates the folder or goes on in it, and takes its lock: one process a run.
  /// @throws ConfigError if it holds results of another recipe (one that differs in more than
  /// threads,
  ///   rollout engines, addresses, checkpoints), or any and resume is "disable"; IoError if
  ///   another process works in it.
  RunDirectory(const std::filesystem::path& path, const std::string& resolved_recipe,
               const std::string& resume_mode);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Complete checkpoints, oldest first.
  static std::vector<std::filesystem::path> checkpoints(const std::filesystem::path& run_directory);

  /// Writes checkpoints/step-N atomically (aside, fsync, rename), then removes the oldest beyond
  /// `keep`. The other ranks call help_to_save() meanwhile.
  /// @param reference  policy of the KL loss, or null.
  void save_checkpoint(ExecContext& ctx, const RunState& state, const Transformer& model,
                       const AdamW& optimizer, const Transformer* reference,
                       const std::string& tokenizer_json, int64_t keep);

  /// What a rank that writes nothing adds to save_checkpoint of the same models and optimizer.
  static void help_to_save(ExecContext& ctx, const Transformer& model, const AdamW& optimizer,
                           const Transformer* reference);

  /// The newest complete checkpoint, if any.
  std::optional<std::filesystem::path> newest_checkpoint() const;
  static RunState read_state(const std::filesystem::path& checkpoint);

 private:
  std::filesystem::path path_;
  int lock_ = -1;
};

}  // namespace moerl
