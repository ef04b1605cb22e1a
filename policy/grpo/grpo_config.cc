#include "policy/grpo/grpo_config.h"

#include "common/check.h"

namespace moerl {

void visit_fields(FieldVisitor& v, GrpoConfig& c) {
  v.choice("adv_estimator", c.adv_estimator, {"grpo", "rloo"});
  v.field("norm_adv_by_std_in_grpo", c.norm_adv_by_std_in_grpo);
  v.field("clip_ratio_low", c.clip_ratio_low, kUnit);
  v.field("clip_ratio_high", c.clip_ratio_high, kNotNegative);
  v.field("clip_ratio_c", c.clip_ratio_c, kNotNegative);
  v.choice("loss_agg_mode", c.loss_agg_mode,
           {"token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"});
  v.field("loss_scale_factor", c.loss_scale_factor, kNotNegative);
  v.field("use_kl_loss", c.use_kl_loss);
  v.field("kl_loss_coef", c.kl_loss_coef, kNotNegative);
  v.choice("kl_loss_type", c.kl_loss_type, {"kl", "mse", "low_var_kl", "unbiased_kl"});
  v.field("ref_update_freq", c.ref_update_freq, kNotNegative);
  v.field("entropy_coeff", c.entropy_coeff);
  v.field("ppo_mini_batch_size", c.ppo_mini_batch_size, kNotNegative);
  v.field("ppo_epochs", c.ppo_epochs, kAtLeastOne);
  v.field("ppo_max_token_len", c.ppo_max_token_len, kAtLeastOne);
  v.field("recompute", c.recompute);
  v.field("require_exact_rollout", c.require_exact_rollout);
  v.field("router_bias_update_rate", c.router_bias_update_rate, kNotNegative);
  v.field("aux_loss_alpha", c.aux_loss_alpha, kNotNegative);
  v.group("optim", c.optim);
  v.require(c.clip_ratio_c == 0 || c.clip_ratio_c > 1,
            "clip_ratio_c must be 0 (off) or greater than 1");
}

kernels::KlType parse_kl_type(const std::string& name) {
  if (name == "kl") return kernels::KlType::kK1;
  if (name == "mse") return kernels::KlType::kK2;
  if (name == "low_var_kl") return kernels::KlType::kK3;
  check(name == "unbiased_kl", "kl_loss_type is '", name,
        "', expected kl, mse, low_var_kl or unbiased_kl");
  return kernels::KlType::kK3Unbiased;
}

}  // namespace moerl
