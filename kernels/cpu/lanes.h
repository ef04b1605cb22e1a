#pragma once
// Loops over a row in steps of sixteen lanes. Included by *_cpu.cc only.

#include "kernels/cpu/simd.h"

/// A lambda that is always part of its caller's loop.
#define MOERL_INLINE_LAMBDA __attribute__((always_inline))

namespace moerl::kernels {
namespace {

/// load or load_partial; the test disappears where n is a constant.
template <typename T>
MOERL_INLINE F32x16 load_n(const T* p, int64_t n) {
  return n == kLanes ? load(p) : load_partial(p, n);
}
template <typename T>
MOERL_INLINE void store_n(T* p, F32x16 a, int64_t n) {
  if (n == kLanes)
    store(p, a);
  else
    store_partial(p, a, n);
}

/// f(offset, 16) along [0, n), and f(offset, rest) for what is left.
template <typename F>
MOERL_INLINE void for_each_lanes(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, int64_t{kLanes});
  if (i < n) f(i, n - i);
}

/// Sum over a row of what f adds: f(accumulator, offset, count) returns the accumulator with
/// sixteen elements more. The order is part of each op's specification: element i goes to lane i
/// mod 16 of accumulator (i / 16) mod 4; then (a0 + a1) + (a2 + a3), then the lane tree.
template <typename F>
MOERL_INLINE float sum_row(int64_t n, const F& f) {
  F32x16 a0 = zero(), a1 = zero(), a2 = zero(), a3 = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a0 = f(a0, i, int64_t{kLanes});
    a1 = f(a1, i + kLanes, int64_t{kLanes});
    a2 = f(a2, i + 2 * kLanes, int64_t{kLanes});
    a3 = f(a3, i + 3 * kLanes, int64_t{kLanes});
  }
  // The blocks left over, the last one perhaps partial, go to a0, a1, ... in turn.
  if (i < n) a0 = f(a0, i, n - i < kLanes ? n - i : kLanes);
  if (i + kLanes < n) a1 = f(a1, i + kLanes, n - i - kLanes < kLanes ? n - i - kLanes : kLanes);
  if (i + 2 * kLanes < n)
    a2 = f(a2, i + 2 * kLanes, n - i - 2 * kLanes < kLanes ? n - i - 2 * kLanes : kLanes);
  if (i + 3 * kLanes < n) a3 = f(a3, i + 3 * kLanes, n - i - 3 * kLanes);
  return sum_lanes((a0 + a1) + (a2 + a3));
}

}  // namespace
}  // namespace moerl::kernels
