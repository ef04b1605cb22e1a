#pragma once
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace moerl::kernels::ref {

/// Rotates the pairs of x by position * inverse_frequencies[j] and scales them by `amplitude`: a
/// pair as a complex number times amplitude * e^(i angle) (Su et al. 2021, arXiv:2104.09864,
/// section 3.2). Pair j is (x[2j], x[2j+1]), or in halves (x[j], x[j + dim / 2]).
inline void rope(std::vector<double>& x, double position,
                 const std::vector<double>& inverse_frequencies, bool halves,
                 double amplitude = 1) {
  const size_t half = inverse_frequencies.size();
  for (size_t j = 0; j < half; ++j) {
    double& first = x[halves ? j : 2 * j];
    double& second = x[halves ? j + half : 2 * j + 1];
    const std::complex<double> turned = std::complex<double>(first, second) *
                                        std::polar(amplitude, position * inverse_frequencies[j]);
    first = turned.real();
    second = turned.imag();
  }
}

}  // namespace moerl::kernels::ref
