#pragma once
#include <span>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// How router logits become the experts' scores.
enum class GateScoring {
  kSigmoid,  ///< each by itself (DeepSeek-V3)
  kSoftmax,  ///< over all experts (DeepSeek-V2, Qwen3-MoE)
};
/// What a group of experts is worth when only some groups are kept.
enum class GroupWorth {
  kTopTwoSum,  ///< sum of its two largest selection scores ("noaux_tc")
  kMax,        ///< its largest ("group_limited_greedy")
};

/// Routing of mixture-of-experts layers; names of the Hugging Face config.
struct GateConfig {
  int64_t n_routed_experts = 0, num_experts_per_tok = 0;
  int64_t n_group = 1, topk_group = 1;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1;
  GateScoring scoring = GateScoring::kSigmoid;
  GroupWorth group_worth = GroupWorth::kTopTwoSum;
};

/// scores s = sigmoid(logits) or softmax(logits); selection by c = s + bias: the topk_group groups
/// of the greatest worth stay (others at -inf), then the num_experts_per_tok largest c. Weights
/// from the unbiased s: w = s / (sum of chosen s + 1e-20) if norm_topk_prob, times
/// routed_scaling_factor. Ties go to the smaller index. Order of a row: descending c. Sources:
/// DeepSeek-V3 report section 2.1.2 and its inference code; DeepSeek-V2 report (arXiv:2405.04434)
/// section 2.2. A group of one expert is worth its single c. Experts of dropped groups are never
/// chosen, so that num_experts_per_tok must not exceed the experts of topk_group groups. Numeric
/// specification of softmax: e_i = exp(l_i - max l), s_i = e_i / sum e with the sum in the order of
/// sum_row (kernels/cpu/lanes.h).
/// @param logits [T, E] fp32. @param bias [E] fp32 (e_score_correction_bias), or null: none.
/// @param scores out [T, E] fp32. @param topk_idx out [T, K] i32. @param topk_weights out [T, K]
/// fp32.
void topk_gate_forward(ExecContext& ctx, const Tensor& logits, const Tensor* bias,
                       const GateConfig& config, Tensor& scores, Tensor& topk_idx,
                       Tensor& topk_weights);

/// Selection and bias are constants. With S = sum of the chosen s, p_i = s_i / S, G =
/// dtopk_weights, f = routed_scaling_factor: ds_i = (f / S)(G_i - sum_j G_j p_j) for chosen i
/// (norm_topk_prob; else f G_i), plus extra_dscores. Then dlogit = ds s (1 - s) for sigmoid,
/// s (ds - sum_j ds_j s_j) for softmax, that sum in the order of sum_row.
/// @param extra_dscores [T, E] fp32 or null: further gradient of the scores (the balance loss).
/// @param dlogits out [T, E] fp32, overwritten.
void topk_gate_backward(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                        const GateConfig& config, const Tensor& dtopk_weights,
                        const Tensor* extra_dscores, Tensor& dlogits);

/// Sequence-wise balance loss (DeepSeek-V3 report, eq. 17-20) of rows [begin, end), one sequence of
/// n:
///   f_i = E / (K n) * count of i among topk_idx,  s' = s / sum_j s_j,  P_i = mean_t s'_i,
///   loss = alpha sum_i f_i P_i;   f is a constant: dscores[t, i] += alpha / (n S_t) (f_i - sum_j
///   f_j s'_tj)
/// @return the loss. @param dscores [T, E] fp32, accumulated; null for the loss alone.
double sequence_balance_loss(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                             int64_t begin, int64_t end, double alpha, Tensor* dscores);

}  // namespace moerl::kernels
