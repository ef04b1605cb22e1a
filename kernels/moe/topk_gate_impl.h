#pragma once
#include "kernels/moe/topk_gate.h"

namespace moerl::kernels {

/// Rows of the balance loss that are summed by themselves before the sums are added up.
inline constexpr int64_t kBalanceRows = 64;

struct GateForwardArgs {
  GateConfig config;
  const float *logits = nullptr, *bias = nullptr;
  float* scores = nullptr;
  int32_t* topk_idx = nullptr;
  float* topk_weights = nullptr;
};
/// Floats of scratch for one call of TopkGateCpu::forward.
inline int64_t gate_forward_scratch(const GateConfig& config) {
  return config.n_routed_experts + config.num_experts_per_tok + 2 * config.n_group;
}

struct GateBackwardArgs {
  GateConfig config;
  const float* scores = nullptr;
  const int32_t* topk_idx = nullptr;
  const float *dtopk_weights = nullptr, *extra_dscores = nullptr;
  float* dlogits = nullptr;
};

struct BalanceLossArgs {
  int64_t num_experts = 0;
  const float* scores = nullptr;
  const double* load = nullptr;  ///< f [E]
  double factor = 0;             ///< alpha / n
  float* dscores = nullptr;
};

template <Isa isa>
struct TopkGateCpu {
  /// Rows [begin, end); scratch of gate_forward_scratch(config) floats.
  static void forward(const GateForwardArgs& args, int64_t begin, int64_t end, float* scratch);
  static void backward(const GateBackwardArgs& args, int64_t begin, int64_t end);
  /// Sums s' over rows [begin, end) into sums [E], and adds the rows' gradients to dscores.
  static void balance_loss(const BalanceLossArgs& args, int64_t begin, int64_t end, double* sums);
};

/// sequence_balance_loss on the device.
struct BalanceLossCuda {
  int64_t num_experts = 0, num_topk = 0;
  int64_t begin = 0, end = 0;  ///< rows
  double alpha = 0;
  const float* scores = nullptr;
  const int32_t* topk_idx = nullptr;
  float* dscores = nullptr;  ///< or null
  double* loss = nullptr;
  double *load = nullptr, *inverse = nullptr;  ///< scratch: [E], [end - begin]
};

/// All rows, on the device.
struct TopkGateCuda {
  void (*forward)(const GateForwardArgs& args, int64_t rows);
  void (*backward)(const GateBackwardArgs& args, int64_t rows);
  void (*balance_loss)(const BalanceLossCuda& args);
};

}  // namespace moerl::kernels
