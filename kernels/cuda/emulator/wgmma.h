#pragma once
// The host's twin of kernels/cuda/wgmma.h.

#include <cstdint>

#include "kernels/cuda/emulator/async_copy.h"
#include "kernels/cuda/emulator/warpgroup.h"

namespace moerl::kernels::cuda {

inline void fence_for_wgmma() { simt::fence_async_copies(); }
inline void wgmma_fence() { simt::warpgroup_fence(); }
inline void wgmma_commit() { simt::warpgroup_commit(); }
template <int kGroups>
void wgmma_wait() {
  simt::warpgroup_wait(kGroups);
}

template <int kCount>
void wgmma_finish(float (&)[kCount]) {
  simt::warpgroup_wait(0);
}

template <int kColumns, bool kTransposedA, bool kTransposedB>
void wgmma_bf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b, Where where = Where::current()) {
  simt::warpgroup_multiply({d, a, b, kColumns, kTransposedA, kTransposedB}, where);
}

template <int kColumns, bool kTransposedB>
void wgmma_bf16(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b,
                Where where = Where::current()) {
  simt::warpgroup_multiply({d, 0, b, kColumns, false, kTransposedB}, a, where);
}

}  // namespace moerl::kernels::cuda
