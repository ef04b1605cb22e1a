#include "policy/optim/optim_config.h"

namespace moerl {

void visit_fields(FieldVisitor& v, OptimConfig& c) {
  v.field("lr", c.lr, kNotNegative);
  v.choice("lr_scheduler_type", c.lr_scheduler_type, {"constant", "linear", "cosine"});
  v.field("lr_warmup_steps", c.lr_warmup_steps, kNotNegative);
  v.field("min_lr_ratio", c.min_lr_ratio, kUnit);
  v.field("beta1", c.beta1, {0, 0.999999});
  v.field("beta2", c.beta2, {0, 0.999999});
  v.field("eps", c.eps, kPositive);
  v.field("weight_decay", c.weight_decay, kNotNegative);
  v.field("grad_clip", c.grad_clip, kNotNegative);
}

}  // namespace moerl
