#pragma once
#include <algorithm>
#include <cstdint>
#include <string>

#include "policy/model_config.h"

namespace moerl {

/// Bytes that a model needs, whatever the recipe. Working type bf16.
struct ModelPlan {
  int64_t main_parameters = 0;    ///< without the MTP module
  int64_t mtp_parameters = 0;     ///< what the MTP module adds; it shares embedding and head
  int64_t active_parameters = 0;  ///< that one token meets, embedding table and head included
  /// Cache of one token in the two forms of latent attention; absorbed is the latent and the rotary
  /// key alone.
  int64_t kv_bytes_absorbed = 0, kv_bytes_expanded = 0;
  int64_t checkpoint_bf16 = 0;  ///< bytes of the weights on disk; MTP duplicates not counted
  int64_t forward_image = 0;    ///< working weights of the forward pass, bf16
  int64_t masters = 0;          ///< fp32
  int64_t backward_image = 0;   ///< working weights of the backward pass
  int64_t gradients = 0, optimizer = 0;  ///< fp32; two moments
  int64_t activations_per_token = 0;     ///< that backward keeps, estimated
  int64_t recomputed_per_token = 0;      ///< the same with recompute: the residual stream

  /// @param cache  bytes.
  int64_t sampling(int64_t cache) const { return forward_image + cache; }
  int64_t training() const {
    return masters + forward_image + backward_image + gradients + optimizer;
  }
};
ModelPlan plan_model(const ModelConfig& model);

/// The plan for people: sizes, memory of sampling and training, and what of it does not fit into
/// `machine_bytes`. Last line: the verdict.
std::string describe_plan(const ModelConfig& model, int64_t machine_bytes);

}  // namespace moerl
