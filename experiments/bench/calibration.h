#pragma once

namespace moerl::bench {

/// What one core of this machine does at this moment, in processor time.
struct Calibration {
  double fma_gflops;   ///< fp32 fused multiply-adds in registers, widest vectors
  double read_gbytes;  ///< reading memory far larger than the caches
};

/// Takes about 30 ms.
Calibration calibrate();

/// Processor time of this thread, which a busy machine does not stretch.
double processor_seconds();

}  // namespace moerl::bench
