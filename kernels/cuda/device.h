#pragma once
// What a .cu file includes. The same source is compiled by nvcc for a GPU, and as host C++ for the
// emulator, which runs it in the tests of every machine.

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "kernels/cuda/emulator/cudart.h"
#include "kernels/cuda/emulator/emulator.h"
#endif

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

namespace moerl::kernels::cuda {

/// @throws std::runtime_error "op: call: what the runtime says", unless it was a success.
inline void check_cuda(const char* op, const char* call, cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(op) + ": " + call + ": " + cudaGetErrorString(error) +
                             " (" + std::to_string(static_cast<int>(error)) + ")");
}

/// Where this thread's kernels go: the default stream, or the one of a graph that is being captured
/// (graph.cu).
inline thread_local cudaStream_t current_stream = nullptr;

/// What a graph does cannot depend on the host, nor the host on a graph before it is launched.
/// @throws std::runtime_error while a CUDA graph is captured.
inline void refuse_in_capture(const char* op, const char* call, size_t bytes) {
  if (current_stream != nullptr)
    throw std::runtime_error(std::string(op) + ": " + call + " of " + std::to_string(bytes) +
                             " bytes while a CUDA graph is captured");
}

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
};

// Dynamic shared memory of the block, as `unsigned char* name`. There is no other kind: static
// arrays could be neither poisoned nor guarded by the emulator.
#if defined(__CUDACC__)
#define MOERL_SHARED_MEMORY(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#define MOERL_SHARED_MEMORY(name) unsigned char* name = ::moerl::simt::shared_memory()
#endif

/// Before a loop that keeps arrays in registers.
#if defined(__CUDACC__)
#define MOERL_UNROLL _Pragma("unroll")
#else
#define MOERL_UNROLL
#endif

/// kernel<<<shape>>>(arguments...), checked. Nothing is launched for an empty grid.
/// @throws std::runtime_error naming the op.
template <typename... Parameters, typename... Arguments>
void launch(const char* op, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
#if defined(__CUDACC__)
  constexpr size_t kWithoutAsking = 48 << 10;
  if (shape.shared_bytes > kWithoutAsking)
    check_cuda(op, "cudaFuncSetAttribute",
               cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)));
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = current_stream;
  check_cuda(op, "cudaLaunchKernelEx",
             cudaLaunchKernelEx(&config, kernel,
                                static_cast<Parameters>(std::forward<Arguments>(arguments))...));
#else
  const std::tuple<Parameters...> copies(std::forward<Arguments>(arguments)...);
  simt::submit(current_stream, [=] {
    try {
      simt::run(shape.grid, shape.block, shape.shared_bytes, [&] { std::apply(kernel, copies); });
    } catch (const std::exception& error) {
      throw std::runtime_error(std::string(op) + ": " + error.what());
    }
  });
#endif
}

/// Blocks of `size` that cover `count`.
inline unsigned blocks_for(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

inline constexpr int kThreads = 256;

template <typename F>
__global__ void __launch_bounds__(kThreads) each_kernel(int64_t count, F f) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) f(i);
}

/// f(i) for every i in [0, count), each on a thread of its own.
template <typename F>
void launch_each(const char* op, int64_t count, const F& f) {
  launch(op, each_kernel<F>, {blocks_for(count, kThreads), kThreads}, count, f);
}

}  // namespace moerl::kernels::cuda
