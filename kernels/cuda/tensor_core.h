#pragma once
// PTX of sm_80 and newer behind functions: asynchronous copies, ldmatrix, mma. The emulator has a
// twin of each, with the same contract.

#include "kernels/cuda/device.h"

#if !defined(__CUDACC__)
#include "kernels/cuda/emulator/tensor_core.h"
#else

namespace moerl::kernels::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Asks for 16 bytes of shared memory: the first `valid` from global memory, zeros behind them.
/// Both addresses are multiples of 16. The bytes are there for the thread after cp_async_wait, for
/// the block after the barrier behind it.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, uint32_t valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(valid)
               : "memory");
}
/// Closes the group of the copies asked for since the last call.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most kGroups of the thread's youngest groups are under way.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory by a whole warp: lane l gives the
/// address of row l mod 8 of matrix l / 8. out[m] holds elements (l / 4, 2 (l mod 4)) and the next
/// of matrix m, or of its transpose.
template <bool kTransposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
}

/// d [16, 8] += a [16, 16] b [16, 8] by a whole warp, bf16 products and fp32 sums. The fragments
/// are those of mma.m16n8k16 in the PTX manual.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d [16, 8] += a [16, 32] b [32, 8] by a whole warp, E4M3 products and fp32 sums: sm_89 and newer.
/// The fragments are those of mma.m16n8k32 in the PTX manual.
__device__ __forceinline__ void mma_e4m3(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 890
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

}  // namespace moerl::kernels::cuda

#endif
