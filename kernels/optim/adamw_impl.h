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

/// Values in one partial sum of squares.
inline constexpr int64_t kSumBlock = 16384;

struct AdamWCuda {
  void (*update)(const AdamWStep& step, const float* grad, float* weight, float* m, float* v,
                 int64_t count);
  /// sums[b] of each kSumBlock values, on the device.
  void (*sum_of_squares)(const float* values, int64_t count, double* sums);
  /// total = sums[0] + sums[1] + ..., ascending; on the device.
  void (*add_up)(const double* sums, int64_t count, double* total);
};

}  // namespace moerl::kernels
