#pragma once
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// A copy of the values in the memory of ctx's device, as words of 32 bits.
template <typename T>
Tensor upload(ExecContext& ctx, std::span<const T> values) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(int32_t) == 0);
  Tensor words =
      ctx.empty({static_cast<int64_t>(values.size_bytes() / sizeof(int32_t))}, DType::kI32);
  words.copy_from_host(values.data());
  return words;
}

/// A list that kernels read: token ids, positions, borders of row groups. It is the caller's memory
/// on the host, or a tensor that a kernel has made; neither may change while the list is in use.
/// On kCuda a list of the host is copied to the device once, when an op first asks for it: a list
/// that all layers share is made once a pass.
template <typename T>
class List {
 public:
  List() = default;
  List(std::span<const T> values) : host_(values), size_(values.size()) {}  // NOLINT: a view
  List(const std::vector<T>& values) : List(std::span<const T>(values)) {}  // NOLINT: a view
  /// @param values  of dtype T, on any device.
  List(const Tensor& values)  // NOLINT: a view
      : size_(static_cast<size_t>(values.numel())), values_(values) {
    if (values.device() == Device::kCpu) host_ = {values.data<T>(), size_};
  }
  /// @param values  the caller's, in the memory of kCuda.
  static List on_device(const T* values, size_t size) {
    List list;
    list.device_ = values;
    list.size_ = size;
    return list;
  }

  size_t size() const { return size_; }
  /// Whether the values can be looked at here. Not so for those that lie on kCuda alone: whoever
  /// put them there answers for them.
  bool on_host() const { return host_.size() == size_; }
  /// REQUIRES: on_host().
  std::span<const T> host() const {
    check(on_host(), "List: ", size_, " values lie on cuda, accessed from cpu");
    return host_;
  }
  /// The values in the memory of ctx's device.
  const T* data(ExecContext& ctx) const {
    if (ctx.device() == Device::kCpu) return host().data();
    if (device_ != nullptr) return device_;
    if (!values_.defined() || values_.device() != Device::kCuda) values_ = upload(ctx, host_);
    return static_cast<const T*>(values_.raw(Device::kCuda));
  }

 private:
  std::span<const T> host_;
  const T* device_ = nullptr;
  size_t size_ = 0;
  mutable Tensor values_;
};

/// What kernels write and the host reads: the caller's memory on kCpu; on kCuda a tensor, which
/// fetch() copies there.
template <typename T>
class Results {
 public:
  /// @param host  may be empty: a result that is not wanted.
  Results(ExecContext& ctx, std::span<T> host) : host_(host) {
    if (ctx.device() == Device::kCuda && !host.empty())
      device_ = ctx.empty({static_cast<int64_t>(host.size())}, kDTypeOf<T>);
  }
  /// Element `begin` and those behind it, in the memory of the device; null if not wanted.
  T* data(int64_t begin = 0) {
    if (host_.empty()) return nullptr;
    return (device_.defined() ? device_.data<T>(Device::kCuda) : host_.data()) + begin;
  }
  void fetch() {
    if (device_.defined()) device_.copy_to_host(host_.data());
  }

 private:
  std::span<T> host_;
  Tensor device_;
};

}  // namespace moerl::kernels
