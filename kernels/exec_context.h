#pragma once
#include <memory>

#include "common/thread_pool.h"
#include "kernels/cuda/backend.h"
#include "kernels/isa.h"
#include "kernels/tensor.h"

namespace moerl {

/// Where and how kernels run. Passed to every kernel; holds no state that changes a result.
/// Thread safety: kernels on one context run one after the other.
class ExecContext {
 public:
  /// @param num_threads  >= 1. @param isa  of the kernels on kCpu.
  /// @throws std::runtime_error if the device cannot be used.
  explicit ExecContext(int num_threads, Isa isa = detect_isa(), Device device = Device::kCpu)
      : pool_(std::make_unique<ThreadPool>(num_threads)), isa_(isa), device_(device) {
    if (device == Device::kCuda) kernels::require_cuda();
  }

  Device device() const { return device_; }
  Isa isa() const { return isa_; }
  ThreadPool& pool() { return *pool_; }
  int num_threads() const { return pool_->num_threads(); }

  /// In the memory of the device.
  Tensor empty(Shape shape, DType dtype) { return Tensor::empty(std::move(shape), dtype, device_); }
  /// The same, unless `tensor` is such a one already: then it stays where it is.
  void reserve(Tensor& tensor, Shape shape, DType dtype) {
    if (!tensor.defined() || tensor.dtype() != dtype || tensor.shape() != shape ||
        tensor.device() != device_)
      tensor = empty(std::move(shape), dtype);
  }
  Tensor zeros(Shape shape, DType dtype) { return Tensor::zeros(std::move(shape), dtype, device_); }

 private:
  std::unique_ptr<ThreadPool> pool_;
  Isa isa_;
  Device device_;
};

/// Whether a kernel replaces what its output holds or adds to it.
enum class Write : bool { kOverwrite, kAccumulate };

}  // namespace moerl
