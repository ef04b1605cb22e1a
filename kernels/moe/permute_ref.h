#pragma once
#include <cstdint>
#include <vector>

namespace moerl::kernels::ref {

/// y[t] = shared[t] + sum_k weights[t][k] x[t][k]: the combination of one token's expert outputs
/// (DeepSeek-V3 report, eq. 12). `x` holds the slots' rows.
inline std::vector<double> combine(const std::vector<double>& shared,
                                   const std::vector<double>& weights,
                                   const std::vector<std::vector<double>>& x) {
  std::vector<double> y = shared;
  for (size_t k = 0; k < weights.size(); ++k)
    for (size_t d = 0; d < y.size(); ++d) y[d] += weights[k] * x[k][d];
  return y;
}

/// Gradients of combine for one token: dx[k] = weights[k] dy, dweights[k] = <dy, x[k]>.
struct CombineGrad {
  std::vector<std::vector<double>> dx;
  std::vector<double> dweights;
};
inline CombineGrad combine_backward(const std::vector<double>& dy,
                                    const std::vector<double>& weights,
                                    const std::vector<std::vector<double>>& x) {
  CombineGrad grad;
  for (size_t k = 0; k < weights.size(); ++k) {
    std::vector<double> dx;
    double dweight = 0;
    for (size_t d = 0; d < dy.size(); ++d) {
      dx.push_back(weights[k] * dy[d]);
      dweight += dy[d] * x[k][d];
    }
    grad.dx.push_back(dx);
    grad.dweights.push_back(dweight);
  }
  return grad;
}

}  // namespace moerl::kernels::ref
