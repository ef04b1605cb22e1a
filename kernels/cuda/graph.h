#pragma once
#include <functional>
#include <memory>
#include <utility>

#include "kernels/memory_pool.h"

namespace moerl::kernels {

/// One capture at a time on a thread. Errors are std::runtime_error.
struct GraphCuda {
  void (*begin)();
  /// Ends the capture. @return what launch and destroy take.
  void* (*end)();
  void (*abandon)();  ///< ends a capture that has failed
  void (*launch)(const void* graph);
  void (*destroy)(void* graph);
  bool (*is_capturing)();  ///< this thread
};

/// What a function asks the device for (kernels, zeroing, copies within the device), launched as
/// often as wanted by one call. Every launch reads and writes the same addresses with the same
/// arguments: what changes between launches must lie in the device's memory.
class CudaGraph {
 public:
  CudaGraph() = default;
  /// Runs `work` on the host, while nothing of it runs on the device.
  /// @param pool  where the tensors lie that `work` makes. Graphs may share one if they are
  /// launched
  ///   one after the other and none reads what another left there.
  /// @throws what `work` throws, and std::runtime_error where it copies from or to the host or
  /// waits
  ///   for the device.
  CudaGraph(std::shared_ptr<MemoryPool> pool, const std::function<void()>& work);
  ~CudaGraph();
  CudaGraph(CudaGraph&& other) noexcept { *this = std::move(other); }
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(graph_, other.graph_);
    return *this;
  }

  /// Runs after all that was asked for before, and before all that is asked for behind it.
  /// REQUIRES: captured.
  void launch() const;

 private:
  std::shared_ptr<MemoryPool> pool_;
  void* graph_ = nullptr;
};

}  // namespace moerl::kernels
