#pragma once
#include <cmath>
#include <vector>

namespace moerl::kernels::ref {

struct AdamWState {
  double weight = 0, m = 0, v = 0;
};

/// Steps 1, 2, ... of AdamW on one scalar with gradients grads (Loshchilov & Hutter 2019,
/// algorithm 2, decay multiplied by the learning rate).
inline AdamWState adamw(double weight, const std::vector<double>& grads, double lr, double beta1,
                        double beta2, double eps, double weight_decay) {
  AdamWState s{weight, 0, 0};
  for (size_t t = 1; t <= grads.size(); ++t) {
    const double g = grads[t - 1];
    s.m = beta1 * s.m + (1 - beta1) * g;
    s.v = beta2 * s.v + (1 - beta2) * g * g;
    const double m_hat = s.m / (1 - std::pow(beta1, static_cast<double>(t)));
    const double v_hat = s.v / (1 - std::pow(beta2, static_cast<double>(t)));
    s.weight -= lr * (m_hat / (std::sqrt(v_hat) + eps) + weight_decay * s.weight);
  }
  return s;
}

}  // namespace moerl::kernels::ref
