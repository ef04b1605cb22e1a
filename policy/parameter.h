#pragma once
#include <string>
#include <vector>

#include "kernels/gemm/linear.h"
#include "kernels/tensor.h"

namespace moerl {

/// One named tensor of the model: the fp32 master and, for weight matrices, the working image that
/// the kernels read.
struct Parameter {
  std::string name;  ///< Hugging Face name, such as model.layers.0.mlp.gate_proj.weight
  Tensor value;      ///< fp32 master; without memory where the model keeps none
  Tensor grad;       ///< fp32, same shape; undefined until gradients are enabled, and for buffers
  /// A buffer (e_score_correction_bias) has no gradient and no optimizer state; it is saved all the
  /// same.
  bool is_buffer = false;

  static constexpr int kEveryRank = -1;
  /// Under expert parallel, the rank of each group that holds this expert. On the others `value` is
  /// a shape without memory, and there is no gradient.
  int holder = kEveryRank;
  /// Of such an expert: `grad` is what the tokens of the group's first rank give, and these are
  /// what those of the others give, in their order.
  std::vector<Tensor> peer_grads;

  /// Matrices have working images; vectors (norms, biases) are read as they are.
  bool is_matrix() const { return value.shape().rank() >= 2; }
  /// Weight decay applies to matrices, not to norms.
  bool decays() const { return is_matrix(); }
};

}  // namespace moerl
