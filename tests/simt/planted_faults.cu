#include "kernels/cuda/device.h"
#include "kernels/cuda/wgmma.h"
#include "tests/simt/planted_faults.h"

namespace moerl::testing {
namespace {

constexpr int kThreads = 64;

__global__ void exchange_kernel(Fault fault, float* out) {
  MOERL_SHARED_MEMORY(memory);
  float* shared = reinterpret_cast<float*>(memory);
  const int i = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    shared[i] = static_cast<float>(i);
    if (fault != Fault::kNoBarrierBeforeRead) __syncthreads();
    sum += shared[kThreads - 1 - i];
    if (fault == Fault::kNoBarrierBeforeReuse && round == 0) shared[i] = -1.0f;
    __syncthreads();
  }
  if (fault == Fault::kDivergentBarrier) {
    if (i < 40)
      __syncthreads();
    else
      sum += __shfl_sync(~0u, sum, 0);
  }
  if (fault == Fault::kMaskWithoutCaller) sum += __shfl_sync(0xFFFFu, sum, 0);
  if (fault == Fault::kMixedCollectives) {
    if (i % 2 == 0)
      __syncwarp();
    else
      sum += __shfl_sync(~0u, sum, 0);
  }
  if (fault == Fault::kPastSharedMemory) sum += shared[kThreads];
  if (fault == Fault::kMisaligned && i == 0)
    sum += static_cast<float>(reinterpret_cast<const uint4*>(out + 1)->x);
  out[fault == Fault::kPastGlobalMemory ? i + 1 : i] = sum;
}

__global__ void async_copy_kernel(Fault fault, const float* in, float* out) {
  MOERL_SHARED_MEMORY(memory);
  float* shared = reinterpret_cast<float*>(memory);
  const int i = static_cast<int>(threadIdx.x);
  if (i < kThreads / 4) kernels::cuda::cp_async_16(shared + 4 * i, in + 4 * i, 16);
  kernels::cuda::cp_async_commit();
  if (fault == Fault::kNone || fault == Fault::kCopiesOverReads) kernels::cuda::cp_async_wait<0>();
  __syncthreads();
  out[i] = shared[kThreads - 1 - i];
  if (fault == Fault::kCopiesOverReads) {
    if (i < kThreads / 4) kernels::cuda::cp_async_16(shared + 4 * i, in + 4 * i, 16);
    kernels::cuda::cp_async_commit();
    __syncthreads();
    kernels::cuda::cp_async_wait<0>();
  }
  if (fault == Fault::kReadsBeforeWait) {
    __syncthreads();
    kernels::cuda::cp_async_wait<0>();
  }
}

__global__ void wgmma_kernel(Fault fault, const bf16* in, float* out) {
  namespace cuda = kernels::cuda;
  MOERL_SHARED_MEMORY(memory);
  bf16* shared = reinterpret_cast<bf16*>(memory);
  constexpr int kRows = 64, kColumns = 128, kWidth = 64;
  const int thread = static_cast<int>(threadIdx.x);
  const auto copy = [&] {
    for (int i = thread; i < (kRows + kColumns) * kWidth / 8; i += cuda::kWarpgroupThreads)
      cuda::cp_async_16(shared + cuda::swizzled_chunk(i / 8, i % 8), in + 8 * i, 16);
    cuda::cp_async_commit();
  };
  copy();
  cuda::cp_async_wait<0>();
  if (fault != Fault::kNoFenceForWgmma) cuda::fence_for_wgmma();
  __syncthreads();
  float sum[kColumns / 2];
  for (float& value : sum) value = 0.0f;
  if (fault != Fault::kNoFenceOfSums) cuda::wgmma_fence();
  const bool is_odd_one_out = thread / 32 == 2;
  const bf16* left = shared + (fault == Fault::kWarpsDiffer && is_odd_one_out ? 32 : 0);
  if (fault != Fault::kWarpAsksForLess || !is_odd_one_out)
    cuda::wgmma_bf16<kColumns, false, false>(sum, cuda::wgmma_operand<false>(left),
                                             cuda::wgmma_operand<false>(shared + kRows * kWidth));
  cuda::wgmma_commit();
  if (fault == Fault::kCopiesOverReads) copy();
  if (fault != Fault::kReadsBeforeWait && fault != Fault::kNeverWaits) cuda::wgmma_wait<0>();
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  for (int i = 0; i < kColumns / 2; ++i)
    out[(row + i / 2 % 2 * 8) * kColumns + column + i / 4 * 8 + i % 2] = sum[i];
  if (fault == Fault::kReadsBeforeWait) cuda::wgmma_wait<0>();
  if (fault == Fault::kCopiesOverReads) {
    __syncthreads();
    cuda::cp_async_wait<0>();
  }
}

}  // namespace

void run_wgmma(Fault fault, const bf16* in, float* out) {
  constexpr int kBox = kernels::cuda::kWgmmaBox;
  constexpr size_t kOperands = 3 * kBox * kBox * sizeof(bf16);
  kernels::cuda::launch("wgmma", wgmma_kernel, {1, kernels::cuda::kWarpgroupThreads, kOperands},
                        fault, in, out);
}

void run_exchange(Fault fault, float* out) {
  kernels::cuda::launch("exchange", exchange_kernel, {1, kThreads, kThreads * sizeof(float)}, fault,
                        out);
}

void run_async_copy(Fault fault, const float* in, float* out) {
  kernels::cuda::launch("async_copy", async_copy_kernel, {1, kThreads, kThreads * sizeof(float)},
                        fault, in, out);
}

}  // namespace moerl::testing
