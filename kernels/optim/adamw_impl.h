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

/// Runs in the memory of the device, cut into blocks of kSumBlock elements that are counted over
/// all of them.
struct AdamWRunCuda {
  const float* grad;
  float *weight, *m, *v;
  int64_t count, first_block;
  float weight_decay, reserved;
};
struct SquaresRunCuda {
  const float* values;
  int64_t count, first_block;
};

struct AdamWCuda {
  void (*update)(const AdamWStep& step, const AdamWRunCuda* runs, int64_t num_runs,
                 int64_t num_blocks);
  /// sums[b] of each block, on the device.
  void (*block_squares)(const SquaresRunCuda* runs, int64_t num_runs, int64_t num_blocks,
                        double* sums);
};

}  // namespace moerl::kernels
