#pragma once

#include "kernels/dtype.h"

namespace moerl::testing {

// Kernels with one fault each, and their sound twins: what the emulator is for. Where nothing else
// is said they have 64 threads, and `out` is device memory of 64 floats.

enum class Fault {
  kNone,
  kNoBarrierBeforeRead,   ///< of what the other warp wrote
  kNoBarrierBeforeReuse,  ///< of shared memory that the other warp still reads
  kDivergentBarrier,      ///< some lanes of a warp wait at it, some in a shuffle
  kMaskWithoutCaller,     ///< a shuffle by lanes that its mask does not name
  kMixedCollectives,      ///< half a warp shuffles, half meets at __syncwarp
  kPastSharedMemory,      ///< reads one element behind
  kPastGlobalMemory,      ///< writes one element behind
  kMisaligned,            ///< a 16-byte access at a 4-byte address
  kReadsBeforeWait,       ///< of an asynchronous copy
  kNeverWaits,            ///< for an asynchronous copy
  kCopiesOverReads,       ///< asks for a copy to shared memory that is still read
  kNoFenceForWgmma,       ///< between an asynchronous copy and a product of what it brought
  kNoFenceOfSums,         ///< between writing sums and a product that adds to them
  kWarpsDiffer,           ///< in the operand of a product that they ask for together
  kWarpAsksForLess,       ///< than the others of its warpgroup
};

/// Threads exchange numbers through shared memory twice: out[i] = 2 (63 - i).
void run_exchange(Fault fault, float* out);

/// Threads copy `in`, 64 floats, to shared memory asynchronously: out[i] = in[63 - i].
void run_async_copy(Fault fault, const float* in, float* out);

/// A warpgroup copies `in`, 192 rows of 64 bf16, to shared memory and multiplies: out [64, 128] is
/// the product of the first 64 rows by the others, over the first 16 of their elements.
/// kReadsBeforeWait, kNeverWaits and kCopiesOverReads are about the product here.
void run_wgmma(Fault fault, const bf16* in, float* out);

}  // namespace moerl::testing
