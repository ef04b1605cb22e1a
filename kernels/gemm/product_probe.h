#pragma once
#include <cstdint>

#include "kernels/tensor.h"

namespace moerl::kernels {

// Random operands on which two orders of summation differ in their bits.

/// Of random values: about 2^centre, to a factor of 2^spread either way; one in eight is the
/// largest power of two.
struct Magnitude {
  int centre, spread;
};

/// Rows [0, end) become rows [0, period), again and again.
void repeat_rows(const Tensor& tensor, int64_t period, int64_t end);

/// Rows [0, end) of a matrix on the device become random, as many of them of their own as the host
/// can draw in a moment.
/// @param mirror  of a row's second half to its first: 1, -1, or 0, where it is random too.
void randomize_rows(const Tensor& tensor, int64_t end, const Magnitude& magnitude, int mirror,
                    uint64_t stream);

}  // namespace moerl::kernels
