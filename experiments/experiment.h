#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "experiments/fleet.h"
#include "experiments/generation.h"
#include "experiments/metrics_log.h"
#include "experiments/model_source.h"
#include "experiments/progress.h"
#include "experiments/recipe.h"
#include "experiments/run_directory.h"
#include "experiments/sample_store.h"
#include "experiments/sampling_peers.h"
#include "policy/optim/adamw.h"

namespace moerl {

/// Everything a run is made of; the stages work on it. Members in order of dependence.
/// Over several ranks each has one, built and run by all together: rank 0 draws, samples (with the
/// others as workers), scores and writes the run directory; all of them train.
class Experiment {
 public:
  /// Builds the run, and goes on from the newest checkpoint if the directory has one, which all
  /// ranks must be able to read.
  /// @throws ConfigError if there are more ranks than shards in the recipe, or they have other
  /// recipes.
  Experiment(Recipe recipe, const std::filesystem::path& run_path, int num_threads, Isa isa,
             Progress& progress, Communicator& comm = single_process());
  ~Experiment();

  /// All stages that are left, evaluations, checkpoints, report.
  void run();

  // What the stages use.
  const Recipe& recipe() const { return recipe_; }
  const TaskData& task() const { return task_; }
  const LoadedTokenizer& tokenizer() const { return tokenizer_; }
  ExecContext& ctx() { return ctx_; }
  Transformer& policy() { return *policy_; }
  AdamW& optimizer() { return *optimizer_; }
  RunState& state() { return state_; }
  Progress& progress() { return progress_; }
  SampleStore* samples() { return samples_.get(); }

  Communicator& comm() { return comm_; }
  /// Whether this process is the one that samples, scores and writes: rank 0.
  bool is_main() const { return comm_.rank() == 0; }

  /// A key for random numbers of one purpose ("rollout", "val", …), from the recipe's seed.
  uint64_t seed_for(const std::string& purpose) const;
  std::vector<int32_t> encode_prompt(const PromptRow& row) const;
  /// Makes all workers hold the policy's present weights. Called by all ranks.
  void publish();
  /// Runs `body`, which samples, on rank 0. Called by all ranks: where they share the experts, the
  /// others step their engines until it returns.
  void sample(const std::function<void()>& body);
  /// Of rank 0, for use in sample(); as the next one.
  Generator& generator() { return *generator_; }
  /// What the calls of each verifier took since the last step; see Generator.
  std::map<std::string, double> take_reward_metrics() { return generator_->take_reward_metrics(); }
  /// Folder of the reference policy if the run resumed inside a stage that keeps one; else empty.
  const std::filesystem::path& resumed_reference() const { return resumed_reference_; }

  /// Ends one training step: evaluates and saves where the recipe says so, then writes the line of
  /// metrics. Called by all ranks; the metrics are rank 0's.
  void finish_step(const StageConfig& stage, std::map<std::string, double> metrics,
                   const std::string& headline, int64_t stage_steps, const Transformer* reference);

 private:
  void start_from_checkpoint_or_recipe();
  void open_outputs();
  void load_weights_of_recipe();
  void resume_from(const std::filesystem::path& checkpoint);
  RunState start_of_next_stage() const;
  void evaluate(const std::string& stage, std::map<std::string, double>& metrics);
  void evaluate_on_main(const std::string& stage, std::map<std::string, double>& metrics);

  Communicator& comm_;
  Recipe recipe_;
  TaskData task_;
  LoadedTokenizer tokenizer_;
  Progress& progress_;
  DataParallel parallel_;
  ExecContext ctx_;
  std::unique_ptr<Transformer> policy_;
  std::unique_ptr<AdamW> optimizer_;
  RunState state_;
  bool resumed_ = false;
  std::filesystem::path resumed_reference_;
  std::unique_ptr<SamplingPeers> peers_;
  int64_t gathered_version_ = -1;  // whose experts rank 0 has, to send them
  // Of rank 0:
  std::unique_ptr<RunDirectory> directory_;
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<SampleStore> samples_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<Generator> generator_;
};

}  // namespace moerl
