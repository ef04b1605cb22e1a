#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <vector>

#include "common/check.h"
#include "kernels/dtype.h"

namespace moerl {

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

enum class Device : uint8_t { kCpu, kCuda };

/// A dense row-major array. Copies share the memory; the last one frees it. A default-made tensor
/// is empty: defined() is false.
/// Memory is 64-byte aligned, in huge pages when large, and recycled between tensors of like size.
class Tensor {
 public:
  Tensor() = default;
  /// Contents are whatever was there.
  static Tensor empty(Shape shape, DType dtype);
  static Tensor zeros(Shape shape, DType dtype);
  template <typename T>
  static Tensor from(Shape shape, const std::vector<T>& values) {
    Tensor tensor = empty(std::move(shape), kDTypeOf<T>);
    check(tensor.numel() == static_cast<int64_t>(values.size()), "Tensor::from: shape ",
          tensor.shape(), " needs ", tensor.numel(), " values, got ", values.size());
    std::copy(values.begin(), values.end(), tensor.data<T>());
    return tensor;
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const {
    return shape_[static_cast<size_t>(i < 0 ? i + static_cast<int>(shape_.rank()) : i)];
  }
  int64_t numel() const { return numel_; }
  DType dtype() const { return dtype_; }
  int64_t bytes() const { return numel_ * dtype_size(dtype_); }

  /// The elements. REQUIRES: T is the tensor's dtype.
  template <typename T>
  T* data() {
    check_dtype(kDTypeOf<T>);
    return static_cast<T*>(data_);
  }
  template <typename T>
  const T* data() const {
    check_dtype(kDTypeOf<T>);
    return static_cast<const T*>(data_);
  }
  void* raw() { return data_; }
  const void* raw() const { return data_; }

  /// The same memory under another shape of as many elements.
  Tensor view(Shape shape) const;
  /// Rows [begin, end) of the outermost axis, sharing the memory.
  Tensor rows(int64_t begin, int64_t end) const;
  Tensor clone() const;
  void fill_zero();
  /// Frees the recycled memory that no tensor uses.
  static void release_cache();

 private:
  void check_dtype(DType expected) const {
    check(dtype_ == expected, "Tensor: dtype is ", dtype_name(dtype_), ", accessed as ",
          dtype_name(expected));
  }
  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  int64_t numel_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace moerl
