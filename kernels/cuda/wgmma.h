#pragma once
// PTX of Hopper (sm_90a) behind functions: products of operands in shared memory by a warpgroup,
// 128 threads whose first is a multiple of 128. The emulator has a twin of each, with the same
// contract.
//
// An operand lies in shared memory in boxes of 64 rows of 64 elements, 128 bytes, from a multiple
// of 1024 bytes on. Chunk c, 16 bytes, of row r lies where chunk c ^ (r mod 8) would ("128-byte
// swizzle"), so that neither rows nor columns of chunks meet in a bank. A row is an index of the
// operand's own dimension and runs along the depth or, transposed, a step of the depth and runs
// along the operand's dimension.

#include "kernels/cuda/tensor_core.h"
#include "kernels/dtype.h"

namespace moerl::kernels::cuda {

inline constexpr int kWarpgroupThreads = 128;
/// Rows and columns of a box; elements of a chunk; depth of one product.
inline constexpr int kWgmmaBox = 64, kWgmmaChunk = 8, kWgmmaStep = 16;

/// Where a chunk lies in its box, or in a column of boxes, in elements.
__device__ __forceinline__ int swizzled_chunk(int row, int chunk) {
  return row * kWgmmaBox + (chunk ^ row % 8) * kWgmmaChunk;
}

/// What wgmma is told of an operand: where it begins, and how far apart 8 rows are and, transposed,
/// boxes side by side. (PTX manual, matrix descriptor: without a transposition the latter is 1.)
template <bool kTransposed>
__device__ __forceinline__ uint64_t wgmma_operand(const bf16* begin) {
  constexpr uint64_t kRows = 8 * kWgmmaBox * sizeof(bf16);
  constexpr uint64_t kBoxes = kWgmmaBox * kWgmmaBox * sizeof(bf16);
  constexpr uint64_t kSwizzle128 = 1;
  return uint64_t{shared_address(begin) >> 4 & 0x3FFF} |
         (kTransposed ? kBoxes >> 4 : uint64_t{1}) << 16 | kRows >> 4 << 32 | kSwizzle128 << 62;
}

/// The operand behind `steps` steps of the depth.
template <bool kTransposed>
__device__ __forceinline__ const bf16* advance_depth(const bf16* begin, int steps) {
  return begin + steps * kWgmmaStep * (kTransposed ? kWgmmaBox : 1);
}

/// Two neighbours in memory, the first at a multiple of their size.
template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T first, second;
};

}  // namespace moerl::kernels::cuda

#if !defined(__CUDACC__)
#include "kernels/cuda/emulator/wgmma.h"
#else

namespace moerl::kernels::cuda {

/// Makes what this thread wrote to shared memory, and copies that it has waited for, visible to
/// wgmma; of other threads' after a barrier behind it.
__device__ __forceinline__ void fence_for_wgmma() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Before the first product into sums that the thread has written.
__device__ __forceinline__ void wgmma_fence() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
/// Closes the group of the products asked for since the last call.
__device__ __forceinline__ void wgmma_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// Waits until at most kGroups of the youngest groups are under way: what the others read in shared
/// memory may be overwritten behind it.
template <int kGroups>
__device__ __forceinline__ void wgmma_wait() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
#endif
}

/// Waits for all groups, whose sums may be read behind it: the compiler does not know that they are
/// written until then, and could read them before.
template <int kCount>
__device__ __forceinline__ void wgmma_finish(float (&sums)[kCount]) {
  wgmma_wait<0>();
  MOERL_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

#define MOERL_NAMES_32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MOERL_NAMES_64                                                               \
  MOERL_NAMES_32                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MOERL_NAMES_128                                                                          \
  MOERL_NAMES_64                                                                                 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"             \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"             \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
#define MOERL_SUMS_8(i)                                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define MOERL_SUMS_32(i) \
  MOERL_SUMS_8(i), MOERL_SUMS_8(i + 8), MOERL_SUMS_8(i + 16), MOERL_SUMS_8(i + 24)
#define MOERL_SUMS_64(i) MOERL_SUMS_32(i), MOERL_SUMS_32(i + 32)

/// Asks for d [64, kColumns] += a [64, 16] b [16, kColumns] by a whole warpgroup, bf16 products and
/// fp32 sums. d[4 j + e] of thread t is element (t / 32 * 16 + t % 32 / 4 + e / 2 * 8,
/// 8 j + 2 (t % 4) + e % 2).
template <int kColumns, bool kTransposedA, bool kTransposedB>
__device__ __forceinline__ void wgmma_bf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (kColumns == 64)
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{" MOERL_NAMES_32 "}, %32, %33, p, 1, 1, %34, %35;\n}"
        : MOERL_SUMS_32(0)
        : "l"(a), "l"(b), "n"(kTransposedA ? 1 : 0), "n"(kTransposedB ? 1 : 0));
  else if constexpr (kColumns == 128)
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{" MOERL_NAMES_64 "}, %64, %65, p, 1, 1, %66, %67;\n}"
        : MOERL_SUMS_64(0)
        : "l"(a), "l"(b), "n"(kTransposedA ? 1 : 0), "n"(kTransposedB ? 1 : 0));
  else
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{" MOERL_NAMES_128 "}, %128, %129, p, 1, 1, %130, %131;\n}"
        : MOERL_SUMS_64(0), MOERL_SUMS_64(64)
        : "l"(a), "l"(b), "n"(kTransposedA ? 1 : 0), "n"(kTransposedB ? 1 : 0));
#else
  __trap();
#endif
}

/// The same with a in registers, as the fragments of mma_bf16: warp w of the warpgroup has rows 16
/// w and on. They may be overwritten after wgmma_wait.
template <int kColumns, bool kTransposedB>
__device__ __forceinline__ void wgmma_bf16(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                           uint64_t b) {
  static_assert(kColumns == 128);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" MOERL_NAMES_64 "}, {%64, %65, %66, %67}, %68, p, 1, 1, %69;\n}"
      : MOERL_SUMS_64(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTransposedB ? 1 : 0));
#else
  __trap();
#endif
}

#undef MOERL_NAMES_128
#undef MOERL_NAMES_64
#undef MOERL_NAMES_32
#undef MOERL_SUMS_64
#undef MOERL_SUMS_32
#undef MOERL_SUMS_8

}  // namespace moerl::kernels::cuda

#endif
