#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <vector>

#include "common/check.h"
#include "kernels/dtype.h"

namespace moerl {

class MemoryPool;

/// Extents of a tensor, outermost first; printed as [2, 3].
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}
  size_t rank() const { return dims_.size(); }
  int64_t operator[](size_t i) const { return dims_[i]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : dims_) n *= d;
    return n;
  }
  const std::vector<int64_t>& dims() const { return dims_; }
  friend bool operator==(const Shape&, const Shape&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape);

 private:
  std::vector<int64_t> dims_;
};

/// Whose memory it is. kCuda needs a backend (kernels/cuda/backend.h).
enum class Device : uint8_t { kCpu, kCuda };
constexpr const char* device_name(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

/// A dense row-major array in the memory of one device. Copies and views share the memory; the last
/// one frees it. A default-made tensor is empty: defined() is false.
/// Memory is 64-byte aligned, in huge pages when large, and recycled between tensors of like size.
/// That of kCuda is the arena's (kernels/memory_arena.h), or under a MemoryPool::Scope the pool's
/// (kernels/memory_pool.h), which no other tensor gets.
class Tensor {
 public:
  Tensor() = default;
  /// Contents are whatever was there.
  /// @throws std::runtime_error on kCuda without a backend, or out of the device's memory.
  static Tensor empty(Shape shape, DType dtype, Device device = Device::kCpu);
  static Tensor zeros(Shape shape, DType dtype, Device device = Device::kCpu);
  /// Shape and type alone: whoever asks for its elements or for those of a view gets
  /// std::invalid_argument, until attach().
  static Tensor without_memory(Shape shape, DType dtype, Device device = Device::kCpu);
  template <typename T>
  static Tensor from(Shape shape, const std::vector<T>& values) {
    Tensor tensor = empty(std::move(shape), kDTypeOf<T>);
    check(tensor.numel() == static_cast<int64_t>(values.size()), "Tensor::from: shape ",
          tensor.shape(), " needs ", tensor.numel(), " values, got ", values.size());
    std::copy(values.begin(), values.end(), tensor.data<T>());
    return tensor;
  }

  bool defined() const { return storage_ != nullptr; }
  bool has_memory() const { return storage_ != nullptr && storage_->base != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const {
    return shape_[static_cast<size_t>(i < 0 ? i + static_cast<int>(shape_.rank()) : i)];
  }
  int64_t numel() const { return numel_; }
  DType dtype() const { return dtype_; }
  int64_t bytes() const { return numel_ * dtype_size(dtype_); }
  Device device() const { return device_; }

  /// The elements, for code that runs on `device`. REQUIRES: T is the tensor's dtype.
  /// @throws std::invalid_argument if they lie elsewhere.
  template <typename T>
  T* data(Device device = Device::kCpu) {
    check_dtype(kDTypeOf<T>);
    return static_cast<T*>(raw(device));
  }
  template <typename T>
  const T* data(Device device = Device::kCpu) const {
    check_dtype(kDTypeOf<T>);
    return static_cast<const T*>(raw(device));
  }
  /// Null if undefined.
  void* raw(Device device = Device::kCpu) {
    check_device(device);
    return address();
  }
  const void* raw(Device device = Device::kCpu) const {
    check_device(device);
    return address();
  }

  /// The same memory under another shape of as many elements.
  Tensor view(Shape shape) const;
  /// Rows [begin, end) of the outermost axis, sharing the memory.
  Tensor rows(int64_t begin, int64_t end) const;
  Tensor clone() const;
  /// The tensor itself if it lies there, or a copy.
  Tensor to(Device device) const;
  /// Overwrites the elements with those of `from`, which may lie on another device.
  /// @throws std::invalid_argument if its type or number of elements is another.
  void copy_from(const Tensor& from);
  /// The same from and to bytes() bytes of the host's memory.
  void copy_from_host(const void* from);
  void copy_to_host(void* to) const;
  void fill_zero();

  /// Bytes of the memory that this tensor and all that share it lie in.
  int64_t memory_bytes() const { return storage_ ? storage_->bytes : 0; }
  /// Lends a tensor without memory, and all that share it, the memory of another one. Contents are
  /// whatever was there. REQUIRES: lender.bytes() >= memory_bytes().
  void attach(const Tensor& lender);
  /// Frees the recycled memory that no tensor uses.
  static void release_cache();

 private:
  void check_dtype(DType expected) const {
    check(dtype_ == expected, "Tensor: dtype is ", dtype_name(dtype_), ", accessed as ",
          dtype_name(expected));
  }
  void check_device(Device expected) const {
    check(device_ == expected, "Tensor: ", shape_, " lies on ", device_name(device_),
          ", accessed from ", device_name(expected));
  }
  /// What copies and views share.
  struct Storage {
    Storage() = default;
    ~Storage();
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
    char* base = nullptr;  // null: without memory
    int64_t bytes = 0;
    size_t block = 0;                  // size of the block at base; 0: base is lent
    std::shared_ptr<MemoryPool> pool;  // whose block it is; null: the common cache's
    std::shared_ptr<Storage> lender;   // keeps lent memory alive
    Device device = Device::kCpu;
  };
  char* address() const {
    if (storage_ == nullptr) return nullptr;
    if (storage_->base == nullptr) throw_without_memory();
    return storage_->base + offset_;
  }
  [[noreturn]] void throw_without_memory() const;

  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // bytes
  Shape shape_;
  int64_t numel_ = 0;
  DType dtype_ = DType::kF32;
  Device device_ = Device::kCpu;
};

}  // namespace moerl
