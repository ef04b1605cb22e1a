#pragma once
#include <string>

#include "common/config.h"
#include "kernels/loss/policy_loss.h"
#include "policy/optim/optim_config.h"

namespace moerl {

/// Group relative policy optimisation; names and defaults as in verl where it has them.
struct GrpoConfig {
  // Advantage.
  std::string adv_estimator = "grpo";   ///< grpo (group mean) or rloo (leave-one-out)
  bool norm_adv_by_std_in_grpo = true;  ///< divide by the group's standard deviation

  // Loss.
  double clip_ratio_low = 0.2, clip_ratio_high = 0.28;
  double clip_ratio_c = 0;  ///< dual clip, > 1; 0 for none
  std::string loss_agg_mode = "token-mean";
  double loss_scale_factor =
      0;                     ///< C of seq-mean-token-sum-norm; 0: the longest completion allowed
  bool use_kl_loss = false;  ///< keeps a reference policy: the one the stage starts from
  double kl_loss_coef = 0.001;
  std::string kl_loss_type = "low_var_kl";  ///< kl (k1), mse (k2), low_var_kl (k3), unbiased_kl
  int64_t ref_update_freq = 0;  ///< steps after which the reference becomes the policy; 0 never
  double entropy_coeff = 0;

  // Updates.
  int64_t ppo_mini_batch_size = 0;  ///< groups (prompts) of one update; 0: all of the step
  int64_t ppo_epochs = 1;
  int64_t ppo_max_token_len = 16384;  ///< tokens of one micro-batch
  bool recompute = false;             ///< recompute layers in backward: less memory, more time
  bool require_exact_rollout =
      true;  ///< stop unless the log-probs of the rollout are reproduced bit for bit
  double router_bias_update_rate = 0;  ///< aux-loss-free balancing, off in RL
  double aux_loss_alpha = 0;           ///< sequence-wise balance loss

  OptimConfig optim;
};

void visit_fields(FieldVisitor& v, GrpoConfig& c);

kernels::KlType parse_kl_type(const std::string& name);

}  // namespace moerl
