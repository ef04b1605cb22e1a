#include "policy/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moerl {

double learning_rate(const OptimConfig& config, int64_t step, int64_t total_steps) {
  if (step < config.lr_warmup_steps)
    return config.lr * static_cast<double>(step + 1) / static_cast<double>(config.lr_warmup_steps);
  if (config.lr_scheduler_type == "constant") return config.lr;
  const double span =
      static_cast<double>(std::max<int64_t>(total_steps - 1 - config.lr_warmup_steps, 1));
  const double progress = std::min(1.0, static_cast<double>(step - config.lr_warmup_steps) / span);
  const double shape = config.lr_scheduler_type == "linear"
                           ? 1 - progress
                           : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * shape);
}

}  // namespace moerl
