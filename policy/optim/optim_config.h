#pragma once
#include <string>

#include "common/config.h"

namespace moerl {

/// AdamW and its learning rate schedule; names as in verl and Hugging Face.
struct OptimConfig {
  double lr = 1e-6;
  std::string lr_scheduler_type = "constant";  ///< constant, linear or cosine, after the warm-up
  int64_t lr_warmup_steps = 0;                 ///< optimizer steps of linear warm-up
  double min_lr_ratio = 0.1;                   ///< where cosine and linear end, as a share of lr
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.0;
  double grad_clip = 1.0;  ///< largest global gradient norm; 0 for none
};

void visit_fields(FieldVisitor& v, OptimConfig& c);

}  // namespace moerl
