#pragma once
#include <cstdint>

#include "kernels/cuda/emulator/emulator.h"

namespace moerl::simt {

// cp.async at the latest moment that its contract allows: bytes land when the thread that asked for
// them waits; until then the place holds NaN.

/// Asks for 16 bytes: the first `valid` from `from`, zeros behind them.
void async_copy_16(void* to, const void* from, uint32_t valid, Where where);
/// Closes the group of the copies asked for since the last call.
void async_commit();
/// Waits until at most `groups` of the thread's youngest groups are under way.
void async_wait(unsigned groups);
/// Makes what the thread has waited for visible to the tensor cores of a warpgroup.
void fence_async_copies();
/// Whether copies of any thread have landed without such a fence.
bool has_unfenced_async_copies();

/// Called by the emulator at a block's start, and when a thread returns.
void reset_async_copies();
void check_no_async_copies();

}  // namespace moerl::simt
