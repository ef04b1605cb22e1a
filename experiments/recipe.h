#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "experiments/tasks/task.h"
#include "policy/grpo/grpo_config.h"
#include "policy/sft/sft_trainer.h"

namespace moerl {

/// Where the policy comes from. Paths are relative to the recipe's folder.
struct ModelSource {
  std::string path;    ///< Hugging Face directory to start from; empty: random weights of `config`
  std::string config;  ///< config.json of a fresh model, if there is no path
  std::string tokenizer;       ///< tokenizer.json; empty: the model directory's, or the task's own
  std::string dtype = "bf16";  ///< or f32; or fp8: bf16 with the products of its layers in FP8
  std::string mla_form;        ///< expanded or absorbed; empty: as the model's config says
};

/// Generation of completions.
struct RolloutSettings {
  std::vector<std::string>
      addresses;               ///< host:port of `moerl serve rollout` processes; empty: embedded
  int64_t num_workers = 1;     ///< embedded engines; more than one is for tests of the fleet
  double kv_cache_gb = 1.0;    ///< memory of one engine's key-value cache
  int64_t max_num_seqs = 512;  ///< sequences that decode together
  int64_t max_batched_tokens = 4096;  ///< tokens of one forward pass
  bool enforce_eager = false;         ///< device: cuda without CUDA graphs, to look for faults
  double timeout_s = 600;             ///< deadline of one generation call
  double keepalive_s = 20;  ///< a worker this long silent is pinged, and lost if half as long
                            ///< passes without an answer
};

/// One term of a reward; see reward::RewardPart.
struct RewardPartSettings {
  std::string name;                            ///< in metrics and samples; empty: the verifier's
  std::string verifier;                        ///< of the reward service
  std::map<std::string, std::string> options;  ///< of the verifier
  double weight = 1;
  std::string gate = "always";  ///< when it counts: always, answered or correct
  bool required = true;         ///< false: a sample that it cannot score keeps its other parts
  std::map<std::string, std::string> score_by_status;  ///< {correct: 1, incorrect: -1}
  std::string needs;  ///< what the verifier must be told: completion, correctness or group; empty:
                      ///< what it says, or completion if it is not built in
};

/// The reward of some data sources.
struct RewardRoute {
  std::vector<std::string> data_sources;
  std::vector<RewardPartSettings> parts;
};

/// A verifier of the user's in the embedded reward service; see reward/plugins/README.md.
struct RewardPlugin {
  std::string name;     ///< of the verifier
  std::string python;   ///< file.py or file.py:function, relative to the recipe
  std::string library;  ///< shared library with the functions of moerl_reward.h, likewise
  std::string command;  ///< program that answers JSON lines, and its arguments
};

/// Scoring of completions. Either one verifier, or the weighted sum of several parts.
struct RewardSettings {
  std::vector<std::string>
      addresses;         ///< host:port of `moerl serve reward` processes; empty: embedded
  std::string verifier;  ///< empty: the task's own
  std::map<std::string, std::string> options;          ///< of the verifier
  std::map<std::string, std::string> score_by_status;  ///< {correct: 1, incorrect: -1}
  std::vector<RewardPartSettings> parts;               ///< instead of one verifier
  std::vector<RewardRoute> routes;  ///< for some data sources, instead of the above
  std::vector<RewardPlugin> plugins;
  double call_timeout_s = 60;    ///< a silent server is given up on after this
  int64_t num_workers = 1;       ///< scoring threads of the embedded service
  double timeout_s = 10;         ///< after which a verifier is cut and the sample counts as wrong
  double max_unscorable = 0.05;  ///< larger share of samples that cannot be scored: the run stops
};

/// How completions are drawn; verl's actor_rollout_ref.rollout.
struct SamplingSettings {
  int64_t n = 8;
  double temperature = 1.0, top_p = 1.0, min_p = 0;
  int64_t top_k = 0;
};

/// Penalty for answers that come near the length limit (DAPO, arXiv:2503.14476, eq. 13).
struct OverlongBuffer {
  bool enable = false;
  int64_t len = 64;
  double penalty_factor = 1.0;
};

/// Groups whose answers all earn the same are dropped and replaced by fresh prompts.
struct FilterGroups {
  bool enable = true;
  int64_t max_num_gen_batches = 10;
};

/// One stage of the recipe; `type` decides which of the parts are used.
struct StageConfig {
  std::string name;
  std::string type;                             ///< sft or grpo
  std::optional<int64_t> save_freq, test_freq;  ///< in place of the trainer's, for this stage
  // sft
  SftConfig sft;
  // grpo
  int64_t train_batch_size = 32;  ///< prompts of one step
  int64_t total_training_steps = 100;
  int64_t max_response_length = 256;
  SamplingSettings rollout;
  GrpoConfig actor;
  FilterGroups filter_groups;
  OverlongBuffer overlong_buffer;
  bool mask_truncated_completions = false;  ///< leave answers cut at the limit out of the loss
};

/// Held-out evaluation during training.
struct ValidationSettings {
  int64_t n = 4;  ///< samples of one problem: mean@n
  double temperature = 1.0, top_p = 1.0;
  int64_t max_response_length = 0;  ///< 0: the longest of the grpo stages
  bool before_train = true;
};

struct TrainerSettings {
  int64_t save_freq = 20;  ///< steps between checkpoints; 0: only at the ends of stages
  int64_t test_freq = 10;  ///< steps between evaluations; 0: only at the ends of stages
  int64_t max_ckpt_to_keep = 2;
  std::string resume_mode =
      "auto";  ///< auto: go on from the newest checkpoint; disable: refuse a used directory
  bool log_samples = true;  ///< every completion into samples.sqlite
};

/// A run over several processes, started by mpirun or srun: as many as there are shards, or fewer.
struct ParallelSettings {
  int64_t data_parallel_size = 1;    ///< shards of an update whose gradients are summed in order;
                                     ///< decides the bits, which the number of ranks does not
  int64_t expert_parallel_size = 1;  ///< ranks that share one set of the routed experts; divides
                                     ///< the ranks and the experts, and decides no bit
  double timeout_s = 1800;  ///< a rank that is silent for so long is given up; more than the
                            ///< longest sampling or evaluation takes
};

/// A whole run: task, model, and the stages that the model goes through.
struct Recipe {
  std::string name;
  int64_t seed = 1;
  std::string device = "cpu";  ///< where the policy lives and runs: cpu or cuda
  int64_t num_threads = 0;     ///< 0: all cores
  ModelSource model;
  TaskConfig task;
  RolloutSettings rollout;
  RewardSettings reward;
  ValidationSettings val;
  TrainerSettings trainer;
  ParallelSettings parallel;
  std::vector<StageConfig> stages;

  std::filesystem::path directory;  ///< of the recipe file; not a field

  /// @param overrides  key=value with dotted keys.
  /// @throws ConfigError listing every violation; IoError if the file cannot be read.
  static Recipe from_file(const std::filesystem::path& path,
                          const std::vector<std::string>& overrides);
  std::string to_yaml() const;
  /// A path of the recipe, as seen from the working directory.
  std::filesystem::path resolve(const std::string& path) const;
  int64_t max_response_length() const;
};

void visit_fields(FieldVisitor& v, Recipe& c);

/// A key for random numbers of one purpose ("rollout", "val", …), from a recipe's seed.
uint64_t purpose_seed(uint64_t seed, std::string_view purpose);

}  // namespace moerl
