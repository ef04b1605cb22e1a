#include "experiments/experiment.h"

#include <chrono>

#include "common/check.h"
#include "common/rng.h"
#include "experiments/evaluation/evaluator.h"
#include "experiments/memory_budget.h"
#include "experiments/report.h"
#include "experiments/reward_settings.h"
#include "experiments/stages/grpo_metrics.h"
#include "experiments/stages/stage.h"
#include "kernels/memory_arena.h"
#include "policy/parallel/collectives.h"
#include "policy/weights_io.h"
#include "rollout/step_together.h"

namespace moerl {
namespace {

TaskData load_checked_task(const Recipe& recipe) {
  TaskData task = load_task(recipe.task, recipe.directory, static_cast<uint64_t>(recipe.seed));
  if (task.train.empty()) throw ConfigError("the task has no training rows");
  for (const StageConfig& stage : recipe.stages)
    if (stage.type == "sft" && task.demonstrations.empty())
      throw ConfigError(
          concat("stage ", stage.name, " needs demonstrations and the task has none"));
  return task;
}

/// @throws ConfigError unless all ranks have the same.
void check_agreement(Communicator& comm, const std::string& what, uint64_t hash) {
  const std::vector<std::vector<uint64_t>> hashes = all_gather(comm, std::vector{hash});
  for (size_t r = 0; r < hashes.size(); ++r)
    if (hashes[r][0] != hashes[0][0])
      throw ConfigError(concat("rank ", r, " has another ", what, " than rank 0"));
}

}  // namespace

int64_t num_stage_steps(const StageConfig& stage, const TaskData& task) {
  if (stage.type == "grpo") return stage.total_training_steps;
  const int64_t rows = static_cast<int64_t>(task.demonstrations.size()) * stage.sft.total_epochs;
  return std::max<int64_t>(rows / stage.sft.train_batch_size, 1);
}

Experiment::Experiment(Recipe recipe, const std::filesystem::path& run_path, int num_threads,
                       Isa isa, Progress& progress, Communicator& comm)
    : comm_(comm),
      recipe_(std::move(recipe)),
      task_(load_checked_task(recipe_)),
      tokenizer_(load_tokenizer(recipe_, task_, load_model_config(recipe_))),
      progress_(progress),
      parallel_(comm, recipe_.parallel.data_parallel_size, recipe_.parallel.expert_parallel_size),
      ctx_(num_threads, isa, parse_device(recipe_.device)) {
  check_agreement(comm_, "recipe", hash64(recipe_.to_yaml()));
  const ModelConfig config = load_model_config(recipe_);
  ExpertParallel::check_experts(config.n_routed_experts, recipe_.parallel.expert_parallel_size);
  const MemoryBudget budget = memory_budget(recipe_, config);
  const int64_t available = available_memory(recipe_);
  require_memory(recipe_, budget, available);
  if (recipe_.device == "cuda") {
    // All of it now: whoever else uses the device is noticed before the first step.
    progress_.note(memory_table(recipe_, budget, available));
    device_arena().reserve(static_cast<size_t>(budget.total()));
  }
  if (is_main())
    directory_ =
        std::make_unique<RunDirectory>(run_path, recipe_.to_yaml(), recipe_.trainer.resume_mode);
  policy_ = make_policy(recipe_, tokenizer_.tokenizer, Masters::kKept, parallel_.experts());
  policy_->enable_gradients();
  optimizer_ = std::make_unique<AdamW>(policy_->parameters(), OptimConfig{}, parallel_);
  start_from_checkpoint_or_recipe();
  peers_ = std::make_unique<SamplingPeers>(comm_, recipe_, ctx_, *policy_);
  if (is_main()) open_outputs();
}

void Experiment::start_from_checkpoint_or_recipe() {
  std::string checkpoint;
  if (is_main()) checkpoint = directory_->newest_checkpoint().value_or("").string();
  checkpoint = broadcast(comm_, checkpoint);
  if (checkpoint.empty()) {
    load_weights_of_recipe();
  } else {
    resume_from(checkpoint);
  }
  if (comm_.size() > 1) check_same_weights(*policy_);
}

void Experiment::open_outputs() {
  // Step 0 is the evaluation before training; it is logged anew unless a checkpoint lies behind it.
  const int64_t logged_until = resumed_ ? state_.global_step : -1;
  metrics_ = std::make_unique<MetricsLog>(directory_->path(), logged_until);
  if (recipe_.trainer.log_samples)
    samples_ = std::make_unique<SampleStore>(directory_->path() / "samples.sqlite", logged_until);
  const std::shared_ptr<reward::VerifierRegistry> verifiers =
      make_registry(recipe_.reward.plugins, recipe_.directory);
  check_rewards(recipe_, task_, *verifiers);
  fleet_ = std::make_unique<Fleet>(recipe_, ctx_, *policy_, verifiers, peers_->addresses());
  generator_ = std::make_unique<Generator>(
      fleet_->workers(), fleet_->rewards(), tokenizer_.tokenizer,
      make_reward_plan(recipe_.reward, task_.verifier),
      [this](const reward::RewardParts& parts) { return needs_of(recipe_.reward, parts); },
      [this] { fleet_->publish(*policy_, state_.policy_version); });
}

Experiment::~Experiment() = default;

void Experiment::load_weights_of_recipe() {
  if (recipe_.model.path.empty()) {
    policy_->init_weights(seed_for("init"));
    policy_->pack(ctx_);
  } else {
    load_weights(ctx_, *policy_, recipe_.resolve(recipe_.model.path));
  }
}

void Experiment::resume_from(const std::filesystem::path& checkpoint) {
  state_ = RunDirectory::read_state(checkpoint);
  check(state_.stage <= static_cast<int64_t>(recipe_.stages.size()), checkpoint.string(),
        ": stage is ", state_.stage, ", the recipe has ", recipe_.stages.size());
  load_weights(ctx_, *policy_, checkpoint);
  optimizer_->load(checkpoint / "optimizer.safetensors");
  if (std::filesystem::exists(checkpoint / "reference"))
    resumed_reference_ = checkpoint / "reference";
  resumed_ = true;
  progress_.note(concat("resuming from ", checkpoint.string()));
}

uint64_t Experiment::seed_for(const std::string& purpose) const {
  return purpose_seed(static_cast<uint64_t>(recipe_.seed), purpose);
}

std::vector<int32_t> Experiment::encode_prompt(const PromptRow& row) const {
  return tokenizer_.tokenizer.encode(row.prompt);
}

void Experiment::publish() {
  if (!recipe_.rollout.addresses.empty() && gathered_version_ != state_.policy_version) {
    policy_->gather_experts();
    gathered_version_ = state_.policy_version;
  }
  peers_->publish(state_.policy_version);
  if (is_main()) fleet_->publish(*policy_, state_.policy_version);
}

void Experiment::sample(const std::function<void()>& body) {
  Engine* engine = is_main() ? fleet_->engine() : peers_->engine();
  if (engine != nullptr && parallel_.experts().size() > 1) {
    step_together(comm_, *engine, body);
  } else if (is_main()) {
    body();
  }
}

void Experiment::run() {
  if (!resumed_ && recipe_.val.before_train) {
    StepMetrics before{.step = 0, .stage = "initial", .values = {}};
    evaluate(before.stage, before.values);
    if (is_main()) metrics_->add(before);
  }
  while (state_.stage < static_cast<int64_t>(recipe_.stages.size())) {
    const StageConfig& stage = recipe_.stages[static_cast<size_t>(state_.stage)];
    if (state_.stage_step == 0)
      optimizer_->reset(stage.type == "sft" ? stage.sft.optim : stage.actor.optim);
    else
      optimizer_->set_config(stage.type == "sft" ? stage.sft.optim : stage.actor.optim);
    progress_.begin_stage(stage.name, state_.stage_step, num_stage_steps(stage, task_));
    if (stage.type == "sft") {
      run_sft_stage(*this, stage);
    } else {
      run_grpo_stage(*this, stage);
    }
    resumed_reference_.clear();
    state_ = start_of_next_stage();
  }
  if (!is_main()) return;
  write_report(directory_->path(), recipe_, metrics_->history(), samples_.get());
  progress_.note(results_table(recipe_, metrics_->history()));
  progress_.note(concat("run directory: ", directory_->path().string(),
                        " (report.html, metrics.jsonl, ",
                        "tensorboard/, samples.sqlite, checkpoints/)"));
}

void Experiment::finish_step(const StageConfig& stage, std::map<std::string, double> metrics,
                             const std::string& numbers, int64_t stage_steps,
                             const Transformer* reference) {
  ++state_.global_step;
  ++state_.stage_step;
  const bool last = state_.stage_step == stage_steps;
  const auto is_due = [&](int64_t freq) {
    return last || (freq > 0 && state_.stage_step % freq == 0);
  };
  if (recipe_.device == "cuda") {
    const MemoryArena::Usage memory = device_arena().usage();
    metrics["perf/max_memory_allocated_gb"] = static_cast<double>(memory.most_used) / (1 << 30);
    metrics["perf/max_memory_reserved_gb"] = static_cast<double>(memory.most_reserved) / (1 << 30);
  }
  progress_.step_done(state_.stage_step, numbers);
  if (is_due(stage.test_freq.value_or(recipe_.trainer.test_freq))) evaluate(stage.name, metrics);
  if (is_main())
    metrics_->add({.step = state_.global_step, .stage = stage.name, .values = std::move(metrics)});
  if (!is_due(stage.save_freq.value_or(recipe_.trainer.save_freq))) return;
  if (last) reference = nullptr;  // the next stage makes one of its own
  if (!is_main()) return RunDirectory::help_to_save(ctx_, *policy_, *optimizer_, reference);
  directory_->save_checkpoint(ctx_, last ? start_of_next_stage() : state_, *policy_, *optimizer_,
                              reference, tokenizer_.json, recipe_.trainer.max_ckpt_to_keep);
}

RunState Experiment::start_of_next_stage() const {
  return {.global_step = state_.global_step,
          .stage = state_.stage + 1,
          .policy_version = state_.policy_version};
}

void Experiment::evaluate(const std::string& stage, std::map<std::string, double>& metrics) {
  if (task_.val.empty()) return;
  publish();
  sample([&] { evaluate_on_main(stage, metrics); });
}

void Experiment::evaluate_on_main(const std::string& stage,
                                  std::map<std::string, double>& metrics) {
  const auto start = std::chrono::steady_clock::now();
  const eval::EvalPlan plan = eval::validation_plan(recipe_, task_, tokenizer_.stop_token_ids);
  std::vector<eval::EvalRecord> evaluated;
  const std::vector<ScoredGroup> groups = eval::evaluate(
      *generator_, tokenizer_.tokenizer, plan, state_.policy_version,
      {.is_done = nullptr,
       .on_record = [&](const eval::EvalRecord& record) { evaluated.push_back(record); },
       .on_progress =
           [this](int64_t done, int64_t total) {
             progress_.update(concat("evaluating ", done, "/", total));
           }});
  metrics.merge(eval::validation_metrics(plan.problems, std::move(evaluated)));
  generator_->take_reward_metrics();  // a training step's metrics are of its own completions
  metrics["timing_s/testing"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const auto& [name, value] : metrics) {
    if (!name.starts_with("val-core/") || name.find("/mean@") == std::string::npos) continue;
    char text[160];
    std::snprintf(text, sizeof text, "%s step %ld: %s = %.1f %%", stage.c_str(),
                  static_cast<long>(state_.stage_step), name.c_str(), 100 * value);
    progress_.note(text);
  }
  if (samples_ == nullptr) return;
  std::vector<SampleRecord> records;
  for (const ScoredGroup& group : groups)
    for (size_t i = 0; i < group.completions.size(); ++i)
      records.push_back(to_record(group, i, state_.global_step, stage, "val",
                                  group.completions[i].verdict.score, 0, false));
  samples_->add(records);
}

}  // namespace moerl
