#pragma once
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace moerl::kernels::ref {

/// Rotates the interleaved pairs of x by position * inverse_frequencies[j] and scales them by
/// `amplitude`: the pair (x[2j], x[2j+1]) as a complex number times amplitude * e^(i angle)
/// (Su et al. 2021, arXiv:2104.09864, section 3.2).
inline void rope(std::vector<double>& x, double position,
                 const std::vector<double>& inverse_frequencies, double amplitude = 1) {
  for (size_t j = 0; j < inverse_frequencies.size(); ++j) {
    const std::complex<double> pair(x[2 * j], x[2 * j + 1]);
    const std::complex<double> turned =
        pair * std::polar(amplitude, position * inverse_frequencies[j]);
    x[2 * j] = turned.real();
    x[2 * j + 1] = turned.imag();
  }
}

}  // namespace moerl::kernels::ref
