#pragma once
// Runs CUDA kernels on the host: a .cu file compiled as C++ includes this in place of
// cuda_runtime.h. One block at a time; each of its threads is a fiber, and a fiber runs until it
// waits. Shared memory is filled with NaN before each block. What it cannot show: time, registers,
// bank conflicts, missing memory fences (memory is sequentially consistent; those of wgmma are
// checked), the text of PTX.

#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim, gridDim;

namespace moerl::simt {

using Where = std::source_location;

/// Runs all blocks of a kernel. @param shared_bytes of dynamic shared memory.
/// @throws std::runtime_error naming block, thread and line where threads wait for each other in
/// vain, a collective is used wrongly, or a launch is beyond the limits of sm_90.
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

/// The block's dynamic shared memory, 1024-byte aligned.
unsigned char* shared_memory();
/// Index of the running thread in its block, x fastest.
int thread_rank();

/// bar.sync id, count: waits for `count` threads, 0 for all that have not returned.
/// @return the sum of what the threads gave.
int barrier(unsigned id, unsigned count, Where where, int given = 0);

/// A warp's meeting: the last lane of `mask` to arrive runs combine(arguments by lane, mask) for
/// all.
/// @param orders_memory  whether what lanes wrote before is visible to the others after it.
using Combine = void (*)(void* const* arguments, uint32_t mask);
void collective(uint32_t mask, const char* op, void* argument, Combine combine, bool orders_memory,
                Where where);

/// Blocks the thread until ready(object, value).
void wait_until(bool (*ready)(void* object, unsigned value), void* object, unsigned value,
                const char* op, Where where);

/// Ends the kernel with an error. Called on a kernel's thread.
[[noreturn]] void fail(const char* op, const std::string& message, Where where);

}  // namespace moerl::simt

// Collectives read other threads' stacks, which is their meaning and no race.
#define MOERL_SIMT_NO_TSAN __attribute__((no_sanitize("thread")))

inline void __syncthreads(moerl::simt::Where where = moerl::simt::Where::current()) {
  moerl::simt::barrier(0, 0, where);
}
inline int __syncthreads_count(int predicate,
                               moerl::simt::Where where = moerl::simt::Where::current()) {
  return moerl::simt::barrier(0, 0, where, predicate != 0 ? 1 : 0);
}
inline int __syncthreads_or(int predicate,
                            moerl::simt::Where where = moerl::simt::Where::current()) {
  return __syncthreads_count(predicate, where) != 0 ? 1 : 0;
}
inline void __syncwarp(uint32_t mask = ~0u,
                       moerl::simt::Where where = moerl::simt::Where::current()) {
  moerl::simt::collective(
      mask, "__syncwarp", nullptr, [](void* const*, uint32_t) {}, true, where);
}

namespace moerl::simt {

template <typename T>
struct ShuffleLane {
  T value;
  int source;
  T result;
};

template <typename T>
T shuffle(uint32_t mask, T value, int source, const char* op, Where where) {
  ShuffleLane<T> lane{value, source, value};
  collective(
      mask, op, &lane,
      [](void* const* lanes, uint32_t present) MOERL_SIMT_NO_TSAN {
        for (int i = 0; i < 32; ++i) {
          if (!(present >> i & 1)) continue;
          auto* me = static_cast<ShuffleLane<T>*>(lanes[i]);
          // A lane that is not there has an undefined value; every bit set is NaN.
          if (present >> me->source & 1)
            me->result = static_cast<ShuffleLane<T>*>(lanes[me->source])->value;
          else
            __builtin_memset(&me->result, 0xFF, sizeof(T));
        }
      },
      false, where);
  return lane.result;
}

}  // namespace moerl::simt

template <typename T>
T __shfl_sync(uint32_t mask, T value, int source,
              moerl::simt::Where where = moerl::simt::Where::current()) {
  return moerl::simt::shuffle(mask, value, source & 31, "__shfl_sync", where);
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int bits,
                  moerl::simt::Where where = moerl::simt::Where::current()) {
  return moerl::simt::shuffle(mask, value, (moerl::simt::thread_rank() ^ bits) & 31,
                              "__shfl_xor_sync", where);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate,
                              moerl::simt::Where where = moerl::simt::Where::current()) {
  uint32_t vote = predicate != 0 ? 1 : 0;
  moerl::simt::collective(
      mask, "__ballot_sync", &vote,
      [](void* const* lanes, uint32_t present) MOERL_SIMT_NO_TSAN {
        uint32_t votes = 0;
        for (int i = 0; i < 32; ++i)
          if (present >> i & 1) votes |= *static_cast<uint32_t*>(lanes[i]) << i;
        for (int i = 0; i < 32; ++i)
          if (present >> i & 1) *static_cast<uint32_t*>(lanes[i]) = votes;
      },
      false, where);
  return vote;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

/// Of integers. No order between threads follows from it.
template <typename T>
T atomicAdd(T* address, T value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
