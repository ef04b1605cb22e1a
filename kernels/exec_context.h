#pragma once
#include <memory>

#include "common/thread_pool.h"
#include "kernels/isa.h"
#include "kernels/tensor.h"

namespace moerl {

/// Where and how kernels run. Passed to every kernel; holds no state that changes a result.
/// Thread safety: kernels on one context run one after the other.
class ExecContext {
 public:
  /// @param num_threads  >= 1.
  explicit ExecContext(int num_threads, Isa isa = detect_isa())
      : pool_(std::make_unique<ThreadPool>(num_threads)), isa_(isa) {}

  Device device() const { return Device::kCpu; }
  Isa isa() const { return isa_; }
  ThreadPool& pool() { return *pool_; }
  int num_threads() const { return pool_->num_threads(); }

  Tensor empty(Shape shape, DType dtype) { return Tensor::empty(std::move(shape), dtype); }
  Tensor zeros(Shape shape, DType dtype) { return Tensor::zeros(std::move(shape), dtype); }

 private:
  std::unique_ptr<ThreadPool> pool_;
  Isa isa_;
};

/// Whether a kernel replaces what its output holds or adds to it.
enum class Write : bool { kOverwrite, kAccumulate };

}  // namespace moerl
