#pragma once
#include <string>
#include <vector>

#include "policy/layers/linear.h"

namespace moerl {

/// SwiGLU feed-forward: y = (silu(x Wg^T) * (x Wu^T)) Wd^T. A dense layer, a shared expert, or the
/// weights of one routed expert.
class SwiGluMlp {
 public:
  /// What backward needs; the product of gate and up is made again from them.
  struct Saved {
    Tensor x;        // [T, D]
    Tensor gate_up;  // [T, 2 I]
  };

  /// @param prefix  of the parameters' names, with its dot.
  SwiGluMlp(const std::string& prefix, int64_t hidden_size, int64_t intermediate_size,
            Device device);

  void collect(std::vector<Parameter*>& parameters);
  /// @param num_sources  as in Linear.
  void enable_gradients(int64_t num_sources = 1);
  void pack(ExecContext& ctx, const PackOptions& options);

  /// @param x [T, D]. @param saved  null in inference.
  Tensor forward(ExecContext& ctx, const Tensor& x, Saved* saved) const;
  /// Returns dx [T, D]; adds to the gradients of the three parameters.
  Tensor backward(ExecContext& ctx, const Tensor& dy, const Saved& saved);

  Linear& gate_up() { return gate_up_; }
  Linear& down() { return down_; }
  const Linear& down() const { return down_; }

 private:
  Linear gate_up_, down_;
};

}  // namespace moerl
