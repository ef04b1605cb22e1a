#pragma once
#include "kernels/tensor.h"

namespace moerl {

/// A tensor for code that writes it on the host: the tensor itself if it lies there, or else memory
/// of the host that write_back() copies to its device.
class HostCopy {
 public:
  /// The contents of a copy are whatever was there.
  explicit HostCopy(Tensor& target)
      : target_(target),
        host_(target.device() == Device::kCpu ? target
                                              : Tensor::empty(target.shape(), target.dtype())) {}
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  Tensor& tensor() { return host_; }
  void write_back() {
    if (target_.device() != Device::kCpu) target_.copy_from(host_);
  }

 private:
  Tensor& target_;
  Tensor host_;
};

}  // namespace moerl
