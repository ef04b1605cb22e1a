#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"

namespace moerl::kernels::cuda {
namespace {

constexpr char kOp[] = "device memory";

bool is_available() {
  int count = 0;  // stays what it is where there is no driver
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

#if defined(__CUDACC__)
constexpr bool kIsEmulated = false;

std::string architecture() {
  int device = 0, major = 0, minor = 0;
  check_cuda(kOp, "cudaGetDevice", cudaGetDevice(&device));
  check_cuda(kOp, "cudaDeviceGetAttribute",
             cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check_cuda(kOp, "cudaDeviceGetAttribute",
             cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return "sm_" + std::to_string(major) + std::to_string(minor);
}
#else
constexpr bool kIsEmulated = true;

std::string architecture() { return "emulated"; }
#endif

void* allocate(size_t bytes) {
  void* memory = nullptr;
  const std::string call = "cudaMalloc of " + std::to_string(bytes) + " bytes";
  check_cuda(kOp, call.c_str(), cudaMalloc(&memory, bytes == 0 ? 1 : bytes));
  return memory;
}

// Frees in destructors: an error here was reported by the call before it, and cannot be thrown.
void free_memory(void* memory) { static_cast<void>(cudaFree(memory)); }

void copy_to_device(void* device, const void* host, size_t bytes) {
  refuse_in_capture(kOp, "copy from the host", bytes);
  check_cuda(kOp, "cudaMemcpy", cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
}
void copy_to_host(void* host, const void* device, size_t bytes) {
  refuse_in_capture(kOp, "copy to the host", bytes);
  check_cuda(kOp, "cudaMemcpy", cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}
void copy_on_device(void* to, const void* from, size_t bytes) {
  check_cuda(kOp, "cudaMemcpyAsync",
             cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current_stream));
}
void zero(void* memory, size_t bytes) {
  check_cuda(kOp, "cudaMemsetAsync", cudaMemsetAsync(memory, 0, bytes, current_stream));
}
void synchronize() {
  refuse_in_capture(kOp, "wait for the device", 0);
  check_cuda(kOp, "cudaDeviceSynchronize", cudaDeviceSynchronize());
}
size_t total_memory() {
  size_t free = 0, total = 0;
  check_cuda(kOp, "cudaMemGetInfo", cudaMemGetInfo(&free, &total));
  return total;
}

const RegisterCudaOps<DeviceMemoryCuda> registered({is_available, kIsEmulated, architecture,
                                                    allocate, free_memory, copy_to_device,
                                                    copy_to_host, copy_on_device, zero, synchronize,
                                                    total_memory});

}  // namespace
}  // namespace moerl::kernels::cuda
