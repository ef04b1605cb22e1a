#pragma once
#include "experiments/experiment.h"

namespace moerl {

/// Supervised fine-tuning on the task's demonstrations. Goes on from state().stage_step.
void run_sft_stage(Experiment& experiment, const StageConfig& stage);

/// Group relative policy optimisation against the task's verifier. Goes on from state().stage_step.
void run_grpo_stage(Experiment& experiment, const StageConfig& stage);

/// Steps that a stage takes in all.
int64_t num_stage_steps(const StageConfig& stage, const TaskData& task);

}  // namespace moerl
