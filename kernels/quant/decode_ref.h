#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

namespace moerl::kernels::ref {

/// The value of a small floating-point number, from its definition: (-1)^s 2^(e - bias) 1.m, and
/// (-1)^s 2^(1 - bias) 0.m where e = 0.
/// @param has_infinity  IEEE 754 (F16): the largest exponent means infinity or NaN. Otherwise
/// (E4M3, OCP 8-bit floating point specification 1.0, section 5) only all ones is NaN.
inline double small_float(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const int bias = (1 << (exponent_bits - 1)) - 1, all_ones = (1 << exponent_bits) - 1;
  const int mantissa = static_cast<int>(bits) & ((1 << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits) & all_ones;
  const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1 ? -1 : 1;
  if (has_infinity && exponent == all_ones)
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  if (!has_infinity && exponent == all_ones && mantissa == (1 << mantissa_bits) - 1)
    return std::numeric_limits<double>::quiet_NaN();
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - bias)
                       : sign * std::ldexp(1 + fraction, exponent - bias);
}

}  // namespace moerl::kernels::ref
