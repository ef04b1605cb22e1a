#pragma once
#include <cstddef>

#include "kernels/tensor.h"

namespace moerl::kernels {

/// Page-locked main memory. Errors are std::runtime_error.
struct StagingCuda {
  void* (*allocate)(size_t bytes);
  void (*free)(void* memory);
  // Copies from and to such memory, done when the device comes to them.
  void (*copy_to_device)(void* device, const void* staged, size_t bytes);
  void (*copy_to_host)(void* staged, const void* device, size_t bytes);
  // Events: points in the order of what the device is asked for.
  void* (*make_event)();
  void (*free_event)(void* event);
  void (*record)(void* event);
  void (*wait)(void* event);
};

/// Main memory that kCuda copies from and to in the order of its work while the host goes on. One
/// copy at a time: until wait() the host may neither write what is copied from here, nor read what
/// is copied to here.
class StagingBuffer {
 public:
  explicit StagingBuffer(int64_t bytes);
  ~StagingBuffer();
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  int64_t bytes() const { return bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(memory_); }
  /// Of the first bytes here, to or from the rows of a tensor on kCuda, as many as it has.
  void copy_to_device(Tensor& to);
  void copy_to_host(const Tensor& from);
  /// Until the device is done with the last copy.
  void wait() const;

 private:
  void check_fits(const Tensor& tensor) const;

  int64_t bytes_;
  void *memory_ = nullptr, *copied_ = nullptr;  // and the event behind the last copy
};

}  // namespace moerl::kernels
