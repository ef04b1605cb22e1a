#include "kernels/cuda/graph.h"

#include "kernels/cuda/backend.h"

namespace moerl::kernels {

CudaGraph::CudaGraph(std::shared_ptr<MemoryPool> pool, const std::function<void()>& work)
    : pool_(std::move(pool)) {
  const auto& ops = cuda_ops<GraphCuda>();
  const MemoryPool::Scope scope(pool_);
  ops.begin();
  try {
    work();
  } catch (...) {
    ops.abandon();
    throw;
  }
  graph_ = ops.end();
}

CudaGraph::~CudaGraph() {
  if (graph_ != nullptr) cuda_ops<GraphCuda>().destroy(graph_);
}

void CudaGraph::launch() const { cuda_ops<GraphCuda>().launch(graph_); }

}  // namespace moerl::kernels
