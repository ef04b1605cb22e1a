#pragma once
#include <span>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl::kernels {

struct AdamWStep {
  float lr = 0;
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0;
  /// 1 - beta^step, with step counted from 1.
  float bias_correction1 = 1, bias_correction2 = 1;
  /// Gradients are multiplied by it first: the global-norm clip.
  float grad_scale = 1;
};

/// Elements that a step updates in place: tensors of any shape, fp32, of equal size.
struct AdamWRun {
  Tensor grad, weight, m, v;
  bool decays = true;  ///< whether weight_decay applies; else it counts as 0
};

/// One AdamW update in place (Loshchilov & Hutter 2019, arXiv:1711.05101), g = grad * grad_scale:
///
///   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
///   w = w - lr * ((m / bc1) / (sqrt(v / bc2) + eps) + weight_decay * w)
///
/// Each element is on its own, in fp32. All runs are one launch on kCuda.
/// @throws std::invalid_argument if a size or type disagrees, a beta is outside [0, 1), or eps or a
/// bias correction is not positive.
void adamw(ExecContext& ctx, const AdamWStep& step, std::span<AdamWRun> runs);

/// Values in one sum of block_squares().
inline constexpr int64_t kSumBlock = 16384;

/// The sum of squares of each block of kSumBlock elements of the gradients (fp32; the last block of
/// each may be shorter), in fp64. Not a number if a gradient is. One launch on kCuda.
std::vector<double> block_squares(ExecContext& ctx, std::span<const Tensor> grads);
/// Their sum, ascending: the same at any number of threads.
double sum_of_squares(ExecContext& ctx, std::span<const Tensor> grads);

}  // namespace moerl::kernels
