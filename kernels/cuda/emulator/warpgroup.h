#pragma once
#include <cstdint>

#include "kernels/cuda/emulator/emulator.h"
#include "kernels/dtype.h"

namespace moerl::simt {

// wgmma at the latest moment that its contract allows: operands are read, and sums written, when
// the thread waits for them.

/// d [64, columns] += a [64, 16] b [16, columns], operands as descriptors of wgmma.
struct WarpgroupProduct {
  float* d;  ///< this thread's share
  uint64_t a, b;
  int columns;
  bool transposed_a, transposed_b;
  bool a_is_in_registers = false;
  bf16 rows[2][16] = {};  ///< of a, then: those of this thread's share
};

/// Asks for a product; all lanes of a warp ask for the same.
void warpgroup_multiply(const WarpgroupProduct& product, Where where);
/// @param a  this lane's fragment of the left operand.
void warpgroup_multiply(WarpgroupProduct product, const uint32_t (&a)[4], Where where);
/// wgmma.fence: the first product of a group is an error without it, since the sums may have been
/// written.
void warpgroup_fence();
/// Closes the group of the products asked for since the last call.
void warpgroup_commit();
/// Waits until at most `groups` of the thread's youngest groups are under way.
void warpgroup_wait(unsigned groups);

/// Called by the emulator at a block's start, and when a thread returns.
void reset_warpgroup_products();
void check_no_warpgroup_products();

}  // namespace moerl::simt
