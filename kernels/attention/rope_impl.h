#pragma once
#include "kernels/attention/rope.h"

namespace moerl::kernels {

struct RopeArgs {
  bool is_bf16 = false;
  RopePairing pairing = RopePairing::kInterleaved;
  const float* table = nullptr;        ///< [positions, dim]
  const int32_t* positions = nullptr;  ///< [T]
  int64_t num_heads = 0, width = 0, first = 0, dim = 0;
  void* x = nullptr;  ///< [T, num_heads, width]
};

template <Isa isa>
struct RopeCpu {
  /// Rotates rows [begin, end) forth or, with inverse, back.
  static void rotate(const RopeArgs& args, bool inverse, int64_t begin, int64_t end);
};

struct RopeCuda {
  /// All rows. Positions are on the device.
  void (*rotate)(const RopeArgs& args, bool inverse, int64_t rows);
};

}  // namespace moerl::kernels
