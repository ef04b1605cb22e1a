#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/graph.h"

namespace moerl::kernels::cuda {
namespace {

constexpr char kOp[] = "CUDA graph";

void begin() {
  check_cuda(kOp, "cudaStreamCreateWithFlags",
             cudaStreamCreateWithFlags(&current_stream, cudaStreamNonBlocking));
  // Relaxed: tensors are allocated, and kernels loaded, on the way.
  const cudaError_t error = cudaStreamBeginCapture(current_stream, cudaStreamCaptureModeRelaxed);
  if (error != cudaSuccess)
    static_cast<void>(cudaStreamDestroy(std::exchange(current_stream, nullptr)));
  check_cuda(kOp, "cudaStreamBeginCapture", error);
}

cudaError_t end_capture(cudaGraph_t& graph) {
  cudaStream_t stream = std::exchange(current_stream, nullptr);
  const cudaError_t error = cudaStreamEndCapture(stream, &graph);
  static_cast<void>(cudaStreamDestroy(stream));
  return error;
}

void* end() {
  cudaGraph_t graph = nullptr;
  check_cuda(kOp, "cudaStreamEndCapture", end_capture(graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  check_cuda(kOp, "cudaGraphInstantiate", error);
  return executable;
}

void abandon() {
  cudaGraph_t graph = nullptr;
  static_cast<void>(end_capture(graph));
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
}

cudaGraphExec_t executable_of(const void* graph) {
  return static_cast<cudaGraphExec_t>(const_cast<void*>(graph));
}

void launch_graph(const void* graph) {
  check_cuda(kOp, "cudaGraphLaunch", cudaGraphLaunch(executable_of(graph), current_stream));
}

void destroy(void* graph) { static_cast<void>(cudaGraphExecDestroy(executable_of(graph))); }

bool is_capturing() { return current_stream != nullptr; }

const RegisterCudaOps<GraphCuda> registered({begin, end, abandon, launch_graph, destroy,
                                             is_capturing});

}  // namespace
}  // namespace moerl::kernels::cuda
