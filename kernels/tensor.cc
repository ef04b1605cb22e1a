#include "kernels/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace moerl {
namespace {

constexpr size_t kAlignment = 64, kHugePage = size_t{2} << 20;
/// Blocks below a huge page are cut from slabs of about kSlab, but where a sanitizer watches their
/// ends.
constexpr size_t kSlab = size_t{8} << 20;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kSmallestInHugePage = kHugePage;
#else
constexpr size_t kSmallestInHugePage = size_t{64} << 10;
#endif

/// Recycles freed blocks by exact size class: a training step asks for the same sizes again and
/// again, and fresh pages cost more than the kernels that fill them. Blocks of 64 KiB and more lie
/// in huge pages, those below 2 MiB several to one of them: a model's experts are that small, and
/// on pages of 4 KiB the processor does not foresee their reading.
class BlockCache {
 public:
  static BlockCache& instance() {
    static auto* cache = new BlockCache;  // never destroyed: tensors may outlive statics
    return *cache;
  }
  void* take(size_t size) {
    std::lock_guard lock(mutex_);
    std::vector<void*>& free = free_[size];
    if (free.empty()) allocate(size, free);
    void* block = free.back();
    free.pop_back();
    return block;
  }
  void give(void* block, size_t size) {
    std::lock_guard lock(mutex_);
    free_[size].push_back(block);
  }
  /// Slabs stay.
  void release() {
    std::lock_guard lock(mutex_);
    for (auto& [size, list] : free_) {
      if (size >= kSmallestInHugePage && size < kHugePage) continue;
      for (void* block : list) std::free(block);
      list.clear();
    }
  }
  /// Rounds up to a size class at most an eighth larger.
  static size_t size_class(size_t size) {
    size_t step = kAlignment;
    while (step * 16 < size) step *= 2;
    if (size >= kHugePage) step = std::max(step, kHugePage);
    return (size + step - 1) / step * step;
  }

 private:
  static void allocate(size_t size, std::vector<void*>& free) {
    if (size < kSmallestInHugePage) {
      void* block = std::aligned_alloc(kAlignment, size);
      if (block == nullptr) throw std::bad_alloc();
      free.push_back(block);
      return;
    }
    // Blocks of a huge page and more are alone in theirs: release() frees each by itself.
    const size_t count = size < kHugePage ? kSlab / size : 1;
    const size_t bytes = (count * size + kHugePage - 1) / kHugePage * kHugePage;
    void* slab = std::aligned_alloc(kHugePage, bytes);
    if (slab == nullptr) throw std::bad_alloc();
    ::madvise(slab, bytes, MADV_HUGEPAGE);
    for (size_t i = count; i-- > 0;) free.push_back(static_cast<char*>(slab) + i * size);
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (size_t i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

Tensor::Storage::~Storage() {
  if (block > 0) BlockCache::instance().give(base, block);
}

Tensor Tensor::empty(Shape shape, DType dtype) {
  Tensor tensor = without_memory(std::move(shape), dtype);
  Storage& storage = *tensor.storage_;
  const size_t size =
      BlockCache::size_class(std::max<size_t>(static_cast<size_t>(storage.bytes), 1));
  storage.base = static_cast<char*>(BlockCache::instance().take(size));
  storage.block = size;
  return tensor;
}

Tensor Tensor::without_memory(Shape shape, DType dtype) {
  for (int64_t d : shape.dims()) check(d >= 0, "Tensor: shape ", shape, " has a negative extent");
  Tensor tensor;
  tensor.numel_ = shape.numel();
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.storage_ = std::make_shared<Storage>();
  tensor.storage_->bytes = tensor.bytes();
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
  tensor.offset_ = offset_ + begin * row * dtype_size(dtype_);
  return tensor;
}

Tensor Tensor::clone() const {
  Tensor tensor = empty(shape_, dtype_);
  if (numel_ > 0) std::memcpy(tensor.raw(), raw(), static_cast<size_t>(bytes()));
  return tensor;
}

void Tensor::fill_zero() {
  if (numel_ > 0) std::memset(raw(), 0, static_cast<size_t>(bytes()));
}

void Tensor::attach(const Tensor& lender) {
  check(defined() && !has_memory(), "Tensor::attach: ", shape_, " has memory already");
  check(lender.bytes() >= memory_bytes(), "Tensor::attach: the lender has ", lender.bytes(),
        " bytes, expected at least ", memory_bytes());
  storage_->base = lender.address();
  storage_->lender = lender.storage_;
}

void Tensor::detach() {
  check(has_memory() && storage_->block == 0, "Tensor::detach: ", shape_, " has no lent memory");
  storage_->base = nullptr;
  storage_->lender.reset();
}

void Tensor::throw_without_memory() const {
  throw std::invalid_argument(concat("Tensor: ", shape_, " has no memory: its contents were not kept"));
}

void Tensor::release_cache() { BlockCache::instance().release(); }

}  // namespace moerl
