#pragma once
#include <cmath>

namespace moerl::kernels::ref {

inline double silu(double a) { return a / (1 + std::exp(-a)); }

inline double swiglu(double gate, double up) { return silu(gate) * up; }

/// Gradients of one element, from silu'(a) = (1 + e^-a + a e^-a) / (1 + e^-a)^2.
struct SwigluGrad {
  double dgate, dup;
};
inline SwigluGrad swiglu_backward(double dhidden, double gate, double up) {
  const double e = std::exp(-gate), derivative = (1 + e + gate * e) / ((1 + e) * (1 + e));
  return {dhidden * up * derivative, dhidden * silu(gate)};
}

}  // namespace moerl::kernels::ref
