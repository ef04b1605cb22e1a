#include "kernels/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace moerl {
namespace {

constexpr size_t kAlignment = 64, kHugePage = size_t{2} << 20;

/// Recycles freed blocks by exact size class: a training step asks for the same sizes again and
/// again, and fresh pages cost more than the kernels that fill them.
class BlockCache {
 public:
  static BlockCache& instance() {
    static auto* cache = new BlockCache;  // never destroyed: tensors may outlive statics
    return *cache;
  }
  void* take(size_t size) {
    {
      std::lock_guard lock(mutex_);
      auto& list = free_[size];
      if (!list.empty()) {
        void* block = list.back();
        list.pop_back();
        return block;
      }
    }
    void* block = std::aligned_alloc(size >= kHugePage ? kHugePage : kAlignment, size);
    if (block == nullptr) throw std::bad_alloc();
    if (size >= kHugePage) ::madvise(block, size, MADV_HUGEPAGE);
    return block;
  }
  void give(void* block, size_t size) {
    std::lock_guard lock(mutex_);
    free_[size].push_back(block);
  }
  void release() {
    std::lock_guard lock(mutex_);
    for (auto& [size, list] : free_)
      for (void* block : list) std::free(block);
    free_.clear();
  }
  /// Rounds up to a size class at most an eighth larger.
  static size_t size_class(size_t size) {
    size_t step = kAlignment;
    while (step * 16 < size) step *= 2;
    if (size >= kHugePage) step = std::max(step, kHugePage);
    return (size + step - 1) / step * step;
  }

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (size_t i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

Tensor Tensor::empty(Shape shape, DType dtype) {
  Tensor tensor;
  for (int64_t d : shape.dims()) check(d >= 0, "Tensor: shape ", shape, " has a negative extent");
  tensor.numel_ = shape.numel();
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  const size_t size =
      BlockCache::size_class(std::max<size_t>(static_cast<size_t>(tensor.bytes()), 1));
  void* block = BlockCache::instance().take(size);
  tensor.storage_ =
      std::shared_ptr<void>(block, [size](void* b) { BlockCache::instance().give(b, size); });
  tensor.data_ = block;
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype) {
  Tensor tensor = empty(std::move(shape), dtype);
  tensor.fill_zero();
  return tensor;
}

Tensor Tensor::view(Shape shape) const {
  check(shape.numel() == numel_, "Tensor::view: ", shape_, " seen as ", shape);
  Tensor tensor = *this;
  tensor.shape_ = std::move(shape);
  return tensor;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  check(shape_.rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "Tensor::rows: [",
        begin, ", ", end, ") of ", shape_);
  std::vector<int64_t> dims = shape_.dims();
  const int64_t row = shape_[0] == 0 ? 0 : numel_ / shape_[0];
  dims[0] = end - begin;
  Tensor tensor = *this;
  tensor.shape_ = Shape(std::move(dims));
  tensor.numel_ = row * (end - begin);
  tensor.data_ = static_cast<char*>(data_) + begin * row * dtype_size(dtype_);
  return tensor;
}

Tensor Tensor::clone() const {
  Tensor tensor = empty(shape_, dtype_);
  if (numel_ > 0) std::memcpy(tensor.data_, data_, static_cast<size_t>(bytes()));
  return tensor;
}

void Tensor::fill_zero() {
  if (numel_ > 0) std::memset(data_, 0, static_cast<size_t>(bytes()));
}

void Tensor::release_cache() { BlockCache::instance().release(); }

}  // namespace moerl
