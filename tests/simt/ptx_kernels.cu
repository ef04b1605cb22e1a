#include "kernels/cuda/device.h"
#include "kernels/cuda/wgmma.h"
#include "tests/simt/ptx_kernels.h"

namespace moerl::testing {
namespace {

namespace cuda = kernels::cuda;

__global__ void cp_async_kernel(const uint32_t* in, uint32_t valid, uint32_t* out) {
  MOERL_SHARED_MEMORY(memory);
  uint32_t* shared = reinterpret_cast<uint32_t*>(memory);
  const int i = 4 * static_cast<int>(threadIdx.x);
  cuda::cp_async_16(shared + i, in + i, valid);
  cuda::cp_async_commit();
  cuda::cp_async_wait<0>();
  for (int word = i; word < i + 4; ++word) out[word] = shared[word];
}

template <bool kTransposed>
__global__ void ldmatrix_kernel(const uint16_t* in, uint16_t* out) {
  MOERL_SHARED_MEMORY(memory);
  uint16_t* shared = reinterpret_cast<uint16_t*>(memory);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 4 * 64; i += 32) shared[i] = in[i];
  __syncthreads();
  uint32_t pairs[4];
  cuda::ldmatrix_x4<kTransposed>(pairs, shared + 8 * lane);
  for (int m = 0; m < 4; ++m)
    for (int half = 0; half < 2; ++half)
      out[64 * m + lane / 4 * 8 + 2 * (lane % 4) + half] =
          static_cast<uint16_t>(pairs[m] >> 16 * half);
}

/// The 32 bits at an element, as a lane of a warp holds them in a fragment.
template <typename T>
__device__ uint32_t word_at(const T* element) {
  return *reinterpret_cast<const uint32_t*>(element);
}

/// Fragments of mma.sync with `kDepth` elements a row, as the PTX manual has them: a word of the
/// row of the lane's quad, of the row eight behind, and of both half the depth further.
template <int kDepth, typename T, typename Multiply>
__device__ void mma(const T* a, const T* b, float* d, const Multiply& multiply) {
  const int lane = static_cast<int>(threadIdx.x), row = lane / 4;
  const int k = lane % 4 * static_cast<int>(4 / sizeof(T)), column = lane % 4 * 2;
  const uint32_t left[4] = {word_at(a + row * kDepth + k), word_at(a + (row + 8) * kDepth + k),
                            word_at(a + row * kDepth + k + kDepth / 2),
                            word_at(a + (row + 8) * kDepth + k + kDepth / 2)};
  const uint32_t right[2] = {word_at(b + row * kDepth + k),
                             word_at(b + row * kDepth + k + kDepth / 2)};
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[(row + i / 2 * 8) * 8 + column + i % 2];
  multiply(sums, left, right);
  for (int i = 0; i < 4; ++i) d[(row + i / 2 * 8) * 8 + column + i % 2] = sums[i];
}

__global__ void mma_bf16_kernel(const bf16* a, const bf16* b, float* d) {
  mma<16>(a, b, d, [](float(&sums)[4], const uint32_t(&left)[4], const uint32_t(&right)[2]) {
    cuda::mma_bf16(sums, left, right);
  });
}

__global__ void mma_e4m3_kernel(const uint8_t* a, const uint8_t* b, float* d) {
  mma<32>(a, b, d, [](float(&sums)[4], const uint32_t(&left)[4], const uint32_t(&right)[2]) {
    cuda::mma_e4m3(sums, left, right);
  });
}

/// Puts element k of the depth of index i where the operand has it, `step` steps into its boxes.
template <bool kTransposed>
__device__ void place(bf16* operand, int i, int k, bf16 value) {
  constexpr int kBox = cuda::kWgmmaBox, kChunk = cuda::kWgmmaChunk;
  if (kTransposed)
    operand[i / kBox * kBox * kBox + cuda::swizzled_chunk(k, i % kBox / kChunk) + i % kChunk] =
        value;
  else
    operand[cuda::swizzled_chunk(i, k / kChunk) + k % kChunk] = value;
}

template <int kColumns, bool kTransposedA, bool kTransposedB, bool kInRegisters>
__global__ void __launch_bounds__(cuda::kWarpgroupThreads)
    wgmma_kernel(int step, const bf16* a, const bf16* b, float* d) {
  constexpr int kBox = cuda::kWgmmaBox, kDepth = cuda::kWgmmaStep;
  MOERL_SHARED_MEMORY(memory);
  bf16 *left = reinterpret_cast<bf16*>(memory), *right = left + kBox * kBox;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kBox * (kBox + kColumns); i += cuda::kWarpgroupThreads)
    left[i].bits = 0x7FC0;  // NaN, wherever the product should not look
  __syncthreads();
  for (int i = thread; i < kBox * kDepth; i += cuda::kWarpgroupThreads)
    place<kTransposedA>(left, i / kDepth, step * kDepth + i % kDepth, a[i]);
  for (int i = thread; i < kColumns * kDepth; i += cuda::kWarpgroupThreads)
    place<kTransposedB>(right, i / kDepth, step * kDepth + i % kDepth, b[i]);
  cuda::fence_for_wgmma();
  __syncthreads();
  const int row = thread / 32 * 16 + thread % 32 / 4, pair = thread % 4 * 2;
  const auto place_of = [&](int i) {
    return (row + i / 2 % 2 * 8) * kColumns + pair + i / 4 * 8 + i % 2;
  };
  float sums[kColumns / 2];
  MOERL_UNROLL
  for (int i = 0; i < kColumns / 2; ++i) sums[i] = d[place_of(i)];
  const uint64_t b_operand =
      cuda::wgmma_operand<kTransposedB>(cuda::advance_depth<kTransposedB>(right, step));
  cuda::wgmma_fence();
  if constexpr (kInRegisters) {
    const uint32_t words[4] = {
        word_at(a + row * kDepth + pair), word_at(a + (row + 8) * kDepth + pair),
        word_at(a + row * kDepth + pair + 8), word_at(a + (row + 8) * kDepth + pair + 8)};
    cuda::wgmma_bf16<kColumns, kTransposedB>(sums, words, b_operand);
  } else {
    const uint64_t a_operand =
        cuda::wgmma_operand<kTransposedA>(cuda::advance_depth<kTransposedA>(left, step));
    cuda::wgmma_bf16<kColumns, kTransposedA, kTransposedB>(sums, a_operand, b_operand);
  }
  cuda::wgmma_commit();
  cuda::wgmma_finish(sums);
  MOERL_UNROLL
  for (int i = 0; i < kColumns / 2; ++i) d[place_of(i)] = sums[i];
}

template <int kColumns, bool kTransposedA, bool kTransposedB, bool kInRegisters = false>
void launch_wgmma(int step, const bf16* a, const bf16* b, float* d) {
  constexpr size_t kBytes = cuda::kWgmmaBox * (cuda::kWgmmaBox + kColumns) * sizeof(bf16);
  cuda::launch("wgmma", wgmma_kernel<kColumns, kTransposedA, kTransposedB, kInRegisters>,
               {1, cuda::kWarpgroupThreads, kBytes}, step, a, b, d);
}

template <int kColumns>
void launch_form(const WgmmaForm& form, const bf16* a, const bf16* b, float* d) {
  const auto run = form.transposed_a   ? form.transposed_b ? launch_wgmma<kColumns, true, true>
                                                           : launch_wgmma<kColumns, true, false>
                     : form.transposed_b ? launch_wgmma<kColumns, false, true>
                                       : launch_wgmma<kColumns, false, false>;
  run(form.step, a, b, d);
}

}  // namespace

void run_cp_async(const uint32_t* in, uint32_t valid, uint32_t* out) {
  cuda::launch("cp_async", cp_async_kernel, {1, 32, 512}, in, valid, out);
}

void run_ldmatrix(bool transposed, const uint16_t* in, uint16_t* out) {
  cuda::launch("ldmatrix", transposed ? ldmatrix_kernel<true> : ldmatrix_kernel<false>,
               {1, 32, 512}, in, out);
}

void run_mma_bf16(const bf16* a, const bf16* b, float* d) {
  cuda::launch("mma", mma_bf16_kernel, {1, 32}, a, b, d);
}
void run_mma_e4m3(const uint8_t* a, const uint8_t* b, float* d) {
  cuda::launch("mma", mma_e4m3_kernel, {1, 32}, a, b, d);
}

void run_wgmma(const WgmmaForm& form, const bf16* a, const bf16* b, float* d) {
  if (form.a_in_registers)
    return (form.transposed_b ? launch_wgmma<128, false, true, true>
                              : launch_wgmma<128, false, false, true>)(form.step, a, b, d);
  switch (form.columns) {
    case 64:
      return launch_form<64>(form, a, b, d);
    case 128:
      return launch_form<128>(form, a, b, d);
    default:
      return launch_form<256>(form, a, b, d);
  }
}

}  // namespace moerl::testing
