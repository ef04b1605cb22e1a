#pragma once
// The few functions of the CUDA runtime that the project calls, for host memory as device memory.
// Memory starts as NaN, and work is done when the call returns, but on a stream that captures:
// there it is done by each launch of the graph. Copies from and to page-locked memory are under way
// until an event behind them is waited for: what goes to the host lands then, and what comes from
// the host must still be there.

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace moerl::simt {

using Work = std::vector<std::function<void()>>;
struct Stream {
  Work captured;
  bool captures = false;
};
/// That captures, of this thread.
inline thread_local Stream* capturing = nullptr;

/// @param stream  null: the default one.
inline void submit(Stream* stream, std::function<void()> work) {
  if (stream != nullptr && stream->captures)
    stream->captured.push_back(std::move(work));
  else
    work();
}

/// A copy under way between page-locked memory of the host and the device.
struct Transfer {
  void* host;
  std::string bytes;  ///< of the device
  bool to_host;

  /// Whether what is copied from is no longer what it was.
  bool source_has_changed() const {
    return !to_host && std::memcmp(host, bytes.data(), bytes.size()) != 0;
  }
};
/// Of this thread, behind the last event.
inline thread_local std::vector<Transfer> transfers;
using Event = std::vector<Transfer>;

}  // namespace moerl::simt

using cudaEvent_t = moerl::simt::Event*;
enum { cudaEventDisableTiming = 2 };
using cudaStream_t = moerl::simt::Stream*;
using cudaGraph_t = moerl::simt::Work*;
using cudaGraphExec_t = moerl::simt::Work*;
enum { cudaStreamNonBlocking = 1 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorHostWroteTooEarly = -1
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                 ? "no error"
         : error == cudaErrorMemoryAllocation ? "out of memory"
                                              : "the host wrote what was still to be copied";
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** memory, size_t bytes) {
  // Not rounded up: the address sanitizer watches the end.
  if (::posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  // A graph may not count on what its own memory held before the launch.
  moerl::simt::submit(moerl::simt::capturing,
                      [=, begin = *memory] { std::memset(begin, 0xFF, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = static_cast<size_t>(::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGE_SIZE));
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
  if (kind == cudaMemcpyDeviceToDevice) {
    moerl::simt::submit(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
  }
  const bool to_host = kind == cudaMemcpyDeviceToHost;
  moerl::simt::transfers.push_back(
      {to_host ? to : const_cast<void*>(from), {static_cast<const char*>(from), bytes}, to_host});
  if (to_host)
    std::memset(to, 0xFF, bytes);
  else
    std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream) {
  moerl::simt::submit(stream, [=] { std::memset(memory, byte, bytes); });
  return cudaSuccess;
}

inline cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new moerl::simt::Event;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  cudaError_t result = cudaSuccess;
  for (const moerl::simt::Transfer& transfer : std::exchange(*event, {})) {
    if (transfer.to_host)
      std::memcpy(transfer.host, transfer.bytes.data(), transfer.bytes.size());
    else if (transfer.source_has_changed())
      result = cudaErrorHostWroteTooEarly;
  }
  return result;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  cudaError_t result = cudaSuccess;
  for (const moerl::simt::Transfer& transfer : *event)  // that nobody has waited for
    if (transfer.source_has_changed()) result = cudaErrorHostWroteTooEarly;
  *event = std::exchange(moerl::simt::transfers, {});
  return result;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new moerl::simt::Stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->captures = true;
  moerl::simt::capturing = stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->captures = false;
  moerl::simt::capturing = nullptr;
  *graph = new moerl::simt::Work(std::move(stream->captured));
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  *executable = new moerl::simt::Work(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const std::function<void()>& work : *executable) work();
  return cudaSuccess;
}
