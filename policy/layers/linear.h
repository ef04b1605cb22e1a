#pragma once
#include <string>
#include <vector>

#include "kernels/gemm/linear.h"
#include "policy/pack_options.h"
#include "policy/parameter.h"

namespace moerl {

/// Linear map y = x W^T, or y = x W^T + b with the sum rounded once; b is fp32. W [N, K] may be
/// made of several parameters stacked along N (a gate and an up projection), so that one product
/// serves them all: each parameter is a row range of the one master, the one gradient and the one
/// working image.
class Linear {
 public:
  struct Part {
    std::string name;  ///< of the parameters, without ".weight" and ".bias"
    int64_t out_features;
  };
  /// @param device  where the parameters lie.
  Linear(const std::vector<Part>& parts, int64_t in_features, bool with_bias, Device device);
  Linear(const std::string& name, int64_t out_features, int64_t in_features, Device device)
      : Linear({{name, out_features}}, in_features, false, device) {}

  int64_t out_features() const { return value_.dim(0); }
  int64_t in_features() const { return value_.dim(1); }

  void collect(std::vector<Parameter*>& parameters);
  /// Allocates zeroed gradients of the parameters.
  /// @param num_sources  ranks whose rows are summed apart: those of the first one in the
  ///   parameters' grad, of the others in peer_grads. REQUIRES: 1 with bias.
  void enable_gradients(int64_t num_sources = 1);
  /// Refreshes the working image.
  void pack(ExecContext& ctx, const PackOptions& options);
  /// Makes an image of rows [begin, end) of W alone. Whoever makes the images of all rows this way
  /// calls finish() then.
  void pack_rows(ExecContext& ctx, const PackOptions& options, int64_t begin, int64_t end,
                 bool with_dgrad, kernels::PackedWeight& image) const;
  void finish(const PackOptions& options) const;

  /// @param x [T, K] of the working type. @return [T, N] of the same type.
  Tensor forward(ExecContext& ctx, const Tensor& x) const;
  /// Adds to the parameters' gradients. @param dx [T, K].
  void backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, Tensor& dx,
                Write write = Write::kOverwrite);
  /// As above; returns dx [T, K] of dy's type.
  Tensor backward(ExecContext& ctx, const Tensor& dy, const Tensor& x);

  const kernels::PackedWeight& image() const { return image_; }
  Tensor& grad(int64_t source = 0) { return grads_[static_cast<size_t>(source)]; }

 private:
  void read_rows(WeightSource& source, int64_t begin, int64_t end, DType dtype, void* out) const;

  Tensor value_;                      // [N, K] fp32; the model gives it memory
  std::vector<Tensor> grads_ = {{}};  // of each source, [N, K] fp32
  Tensor bias_, bias_grad_;           // [N] fp32; undefined without bias
  std::vector<Parameter> parameters_;
  kernels::PackedWeight image_;
};

}  // namespace moerl
