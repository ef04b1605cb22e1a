#pragma once
#include "kernels/moe/permute.h"

namespace moerl::kernels {

struct PermuteArgs {
  bool is_bf16 = false, accumulate = false;
  int64_t num_topk = 0, dim = 0;
  const int32_t* row_of_slot = nullptr;  ///< [T * K]
  const float* weights = nullptr;        ///< [T, K]
  const void *by_token = nullptr, *by_row = nullptr,
             *shared = nullptr;  ///< [T, D], [T K, D], [T, D]
  void *token_out = nullptr, *row_out = nullptr;
  float* dweights = nullptr;
};

/// Each function does tokens [begin, end) and all their slots.
template <Isa isa>
struct PermuteCpu {
  /// row_out[row(t, k)] = by_token[t]
  static void expand(const PermuteArgs& args, int64_t begin, int64_t end);
  /// token_out[t] = sum_k by_row[row(t, k)]
  static void expand_backward(const PermuteArgs& args, int64_t begin, int64_t end);
  /// token_out[t] = shared[t] + sum_k weights[t, k] by_row[row(t, k)]
  static void reduce(const PermuteArgs& args, int64_t begin, int64_t end);
  /// row_out[row(t, k)] = weights[t, k] by_token[t]; dweights[t, k] = <by_token[t], by_row[row]>
  static void reduce_backward(const PermuteArgs& args, int64_t begin, int64_t end);
};

/// All tokens, on the device.
struct PermuteCuda {
  /// sort_by_expert: topk_idx [slots], offsets [E + 1], slot_of_row and row_of_slot [slots].
  void (*sort)(const int32_t* topk_idx, int64_t slots, int64_t num_experts, int64_t* offsets,
               int32_t* slot_of_row, int32_t* row_of_slot);
  void (*expand)(const PermuteArgs& args, int64_t tokens);
  void (*expand_backward)(const PermuteArgs& args, int64_t tokens);
  void (*reduce)(const PermuteArgs& args, int64_t tokens);
  void (*reduce_backward)(const PermuteArgs& args, int64_t tokens);
};

}  // namespace moerl::kernels
