#include "kernels/cuda/staging.h"

#include "kernels/cuda/backend.h"

namespace moerl::kernels {
namespace {

const StagingCuda& ops() { return cuda_ops<StagingCuda>(); }

}  // namespace

StagingBuffer::StagingBuffer(int64_t bytes)
    : bytes_(bytes), memory_(ops().allocate(static_cast<size_t>(bytes))) {
  try {
    copied_ = ops().make_event();
  } catch (...) {
    ops().free(memory_);
    throw;
  }
}

StagingBuffer::~StagingBuffer() {
  ops().free_event(copied_);
  ops().free(memory_);
}

void StagingBuffer::check_fits(const Tensor& tensor) const {
  check(tensor.bytes() <= bytes_, "StagingBuffer: a tensor of ", tensor.bytes(),
        " bytes, expected at most ", bytes_);
}

void StagingBuffer::copy_to_device(Tensor& to) {
  check_fits(to);
  ops().copy_to_device(to.raw(Device::kCuda), memory_, static_cast<size_t>(to.bytes()));
  ops().record(copied_);
}

void StagingBuffer::copy_to_host(const Tensor& from) {
  check_fits(from);
  ops().copy_to_host(memory_, from.raw(Device::kCuda), static_cast<size_t>(from.bytes()));
  ops().record(copied_);
}

void StagingBuffer::wait() const { ops().wait(copied_); }

}  // namespace moerl::kernels
