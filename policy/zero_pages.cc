#include "policy/zero_pages.h"

#include <sys/mman.h>

#include <cstring>

namespace moerl {
namespace {

constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20;

}  // namespace

Tensor zero_pages(Shape shape, Device device) {
  if (device != Device::kCpu) return Tensor::zeros(std::move(shape), DType::kF32, device);
  Tensor tensor = Tensor::empty(std::move(shape), DType::kF32);
  drop_pages(tensor);
  return tensor;
}

void drop_pages(Tensor& tensor) {
  const auto begin = reinterpret_cast<uintptr_t>(tensor.raw());
  const uintptr_t end = begin + static_cast<size_t>(tensor.bytes());
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  // Private anonymous memory reads as zero once it was dropped.
  if (end - begin < kHugePage ||
      ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0) {
    tensor.fill_zero();
    return;
  }
  std::memset(reinterpret_cast<void*>(begin), 0, first - begin);
  std::memset(reinterpret_cast<void*>(last), 0, end - last);
}

}  // namespace moerl
