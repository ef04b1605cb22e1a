#pragma once
#include <cstdint>

#include "policy/optim/optim_config.h"

namespace moerl {

/// Learning rate of optimizer step `step`, counted from 0, of a stage of `total_steps`: linear
/// warm-up from lr / lr_warmup_steps to lr, then constant, linear or cosine down to min_lr_ratio *
/// lr at the last step.
double learning_rate(const OptimConfig& config, int64_t step, int64_t total_steps);

}  // namespace moerl
