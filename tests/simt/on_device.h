#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/exec_context.h"
#include "tests/simt/orders.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// A tensor's copy in the memory of the device.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& tensor)
      : host_(tensor), memory_(memory().allocate(static_cast<size_t>(tensor.bytes()))) {
    if (tensor.bytes() > 0)
      memory().copy_to_device(memory_, tensor.raw(), static_cast<size_t>(tensor.bytes()));
  }
  /// Of the given extents; every value starts as NaN.
  OnDevice(Shape shape, DType dtype)
      : OnDevice([&] {
          Tensor tensor = Tensor::empty(std::move(shape), dtype);
          if (tensor.bytes() > 0)
            std::memset(tensor.raw(), 0xFF, static_cast<size_t>(tensor.bytes()));
          return tensor;
        }()) {}
  ~OnDevice() { memory().free(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  void* raw() const { return memory_; }
  template <typename T = float>
  T* data() const {
    return static_cast<T*>(memory_);
  }
  Tensor to_host() const {
    Tensor tensor = host_.clone();
    if (tensor.bytes() > 0)
      memory().copy_to_host(tensor.raw(), memory_, static_cast<size_t>(tensor.bytes()));
    return tensor;
  }

 private:
  static const kernels::DeviceMemoryCuda& memory() {
    return kernels::cuda_ops<kernels::DeviceMemoryCuda>();
  }
  Tensor host_;
  void* memory_;
};

/// Numbers or pointers in the memory of the device.
template <typename T>
class ArrayOnDevice {
 public:
  explicit ArrayOnDevice(const std::vector<T>& values)
      : count_(values.size()), memory_(device().allocate(values.size() * sizeof(T))) {
    if (!values.empty()) device().copy_to_device(memory_, values.data(), values.size() * sizeof(T));
  }
  ~ArrayOnDevice() { device().free(memory_); }
  ArrayOnDevice(const ArrayOnDevice&) = delete;
  ArrayOnDevice& operator=(const ArrayOnDevice&) = delete;
  T* data() const { return static_cast<T*>(memory_); }
  std::vector<T> to_host() const {
    std::vector<T> values(count_);
    if (count_ > 0) device().copy_to_host(values.data(), memory_, count_ * sizeof(T));
    return values;
  }

 private:
  static const kernels::DeviceMemoryCuda& device() {
    return kernels::cuda_ops<kernels::DeviceMemoryCuda>();
  }
  size_t count_;
  void* memory_;
};

/// Runs the device's kernels in every order.
inline void for_each_order(const std::function<void()>& body) {
  for (const std::string& order : run_orders()) {
    SCOPED_TRACE(order);
    set_run_order(order);
    body();
  }
}

}  // namespace moerl::testing

/// The device's result equals the CPU's bit for bit. The CPU's is compared with the
/// double-precision reference in tests/kernels, and so is its invariance.
#define EXPECT_BITS(on_device, expected) \
  EXPECT_TRUE(::moerl::testing::same_bits((on_device).to_host(), expected)) << #on_device
