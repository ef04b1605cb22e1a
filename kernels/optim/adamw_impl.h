#pragma once
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/optim/adamw.h"

namespace moerl::kernels {

template <Isa isa>
struct AdamWCpu {
  static void update(const AdamWStep& step, const float* grad, float* weight, float* m, float* v,
                     int64_t count);
  /// Sixteen fp64 sums over i mod 16, ascending, then the lane tree.
  static double sum_of_squares(const float* values, int64_t count);
};

}  // namespace moerl::kernels
