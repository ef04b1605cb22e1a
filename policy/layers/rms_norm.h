#pragma once
#include <string>
#include <vector>

#include "kernels/norm/rms_norm.h"
#include "policy/parameter.h"

namespace moerl {

/// The residual stream on its way to the next norm: its value is x + delta. The norm that reads it
/// makes the sum, in one pass with its own work.
struct Residual {
  Tensor x;      ///< [T, D]
  Tensor delta;  ///< what the last sublayer adds; undefined when there is nothing to add
};

/// RMSNorm with a learned weight.
class RmsNorm {
 public:
  RmsNorm(const std::string& name, int64_t width, double eps, Device device);

  void collect(std::vector<Parameter*>& parameters) { parameters.push_back(&weight_); }
  void enable_gradients();

  /// @param rstd  out [T], what backward needs; null in inference.
  Tensor forward(ExecContext& ctx, const Tensor& x, Tensor* rstd) const;
  /// Norm of the stream's sum, which becomes stream.x; the former stream.x keeps its contents for
  /// those who share it.
  Tensor forward(ExecContext& ctx, Residual& stream, Tensor* rstd) const;
  /// Adds to the weight's gradient; dx is overwritten or accumulated.
  void backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& rstd, Tensor& dx,
                Write write);

 private:
  Parameter weight_;
  float eps_;
};

}  // namespace moerl
