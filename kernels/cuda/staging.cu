#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/staging.h"

namespace moerl::kernels::cuda {
namespace {

constexpr char kOp[] = "staging memory";

void* allocate(size_t bytes) {
  void* memory = nullptr;
  const std::string call = "cudaMallocHost of " + std::to_string(bytes) + " bytes";
  check_cuda(kOp, call.c_str(), cudaMallocHost(&memory, bytes == 0 ? 1 : bytes));
  return memory;
}

// Called by destructors: see device_memory.cu. cudaFreeHost waits for copies under way.
void free_memory(void* memory) { static_cast<void>(cudaFreeHost(memory)); }

void copy_to_device(void* device, const void* staged, size_t bytes) {
  refuse_in_capture(kOp, "copy from the host", bytes);
  check_cuda(kOp, "cudaMemcpyAsync",
             cudaMemcpyAsync(device, staged, bytes, cudaMemcpyHostToDevice, current_stream));
}
void copy_to_host(void* staged, const void* device, size_t bytes) {
  refuse_in_capture(kOp, "copy to the host", bytes);
  check_cuda(kOp, "cudaMemcpyAsync",
             cudaMemcpyAsync(staged, device, bytes, cudaMemcpyDeviceToHost, current_stream));
}

cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

void* make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(kOp, "cudaEventCreateWithFlags",
             cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}
void free_event(void* event) { static_cast<void>(cudaEventDestroy(event_of(event))); }
void record(void* event) {
  check_cuda(kOp, "cudaEventRecord", cudaEventRecord(event_of(event), current_stream));
}
void wait(void* event) {
  check_cuda(kOp, "cudaEventSynchronize", cudaEventSynchronize(event_of(event)));
}

const RegisterCudaOps<StagingCuda> registered({allocate, free_memory, copy_to_device, copy_to_host,
                                               make_event, free_event, record, wait});

}  // namespace
}  // namespace moerl::kernels::cuda
