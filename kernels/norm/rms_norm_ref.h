#pragma once
#include <cmath>
#include <vector>

namespace moerl::kernels::ref {

/// One row of rms_norm_forward in double.
inline std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& weight,
                                    double eps) {
  double square_sum = 0;
  for (double v : x) square_sum += v * v;
  const double rms = std::sqrt(square_sum / static_cast<double>(x.size()) + eps);
  std::vector<double> y(x.size());
  for (size_t d = 0; d < x.size(); ++d) y[d] = x[d] / rms * weight[d];
  return y;
}

/// Gradients of one row: dx, and what the row adds to dweight. From the quotient rule,
/// d(x_d / rms)/d(x_j) = [d = j] / rms - x_d x_j / (D rms^3).
struct RmsNormGrad {
  std::vector<double> dx, dweight;
};
inline RmsNormGrad rms_norm_backward(const std::vector<double>& dy, const std::vector<double>& x,
                                     const std::vector<double>& weight, double eps) {
  const size_t dim = x.size();
  double square_sum = 0, dot = 0;
  for (size_t d = 0; d < dim; ++d) {
    square_sum += x[d] * x[d];
    dot += dy[d] * weight[d] * x[d];
  }
  const double rms = std::sqrt(square_sum / static_cast<double>(dim) + eps);
  RmsNormGrad grad{std::vector<double>(dim), std::vector<double>(dim)};
  for (size_t j = 0; j < dim; ++j) {
    grad.dx[j] =
        dy[j] * weight[j] / rms - x[j] * dot / (static_cast<double>(dim) * rms * rms * rms);
    grad.dweight[j] = dy[j] * x[j] / rms;
  }
  return grad;
}

}  // namespace moerl::kernels::ref
