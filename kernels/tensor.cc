#include "kernels/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>

#include "kernels/cuda/backend.h"
#include "kernels/memory_arena.h"
#include "kernels/memory_pool.h"

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

/// Main memory. Recycles freed blocks by exact size class: a training step asks for the same sizes
/// again and again, and fresh pages cost more than the kernels that fill them. Blocks of 64 KiB and
/// more lie in huge pages, those below 2 MiB several to one of them: a model's experts are that
/// small, and on pages of 4 KiB the processor does not foresee their reading.
class BlockCache {
 public:
  static BlockCache& global() {
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
      if (is_in_slab(size)) continue;
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
  static bool is_in_slab(size_t size) { return size >= kSmallestInHugePage && size < kHugePage; }

  void allocate(size_t size, std::vector<void*>& free) {
    if (size < kSmallestInHugePage) {
      void* block = std::aligned_alloc(kAlignment, size);
      if (block == nullptr) throw std::bad_alloc();
      free.push_back(block);
      return;
    }
    // Blocks of a huge page and more are alone in theirs: release() frees each by itself.
    const size_t count = is_in_slab(size) ? kSlab / size : 1;
    const size_t bytes = (count * size + kHugePage - 1) / kHugePage * kHugePage;
    void* slab = std::aligned_alloc(kHugePage, bytes);
    if (slab == nullptr) throw std::bad_alloc();
    ::madvise(slab, bytes, MADV_HUGEPAGE);
    for (size_t i = count; i-- > 0;) free.push_back(static_cast<char*>(slab) + i * size);
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
};

/// Bytes of the block for a tensor of `bytes` bytes; never 0.
size_t block_size(size_t bytes, Device device) {
  bytes = std::max<size_t>(bytes, 1);
  return device == Device::kCpu ? BlockCache::size_class(bytes) : bytes;
}

/// to and from are of any two devices.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (bytes == 0) return;
  if (to_device == Device::kCpu && from_device == Device::kCpu) {
    std::memcpy(to, from, bytes);
  } else if (to_device == Device::kCpu) {
    kernels::device_memory().copy_to_host(to, from, bytes);
  } else if (from_device == Device::kCpu) {
    kernels::device_memory().copy_to_device(to, from, bytes);
  } else {
    kernels::device_memory().copy_on_device(to, from, bytes);
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (size_t i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

Tensor::Storage::~Storage() {
  if (block == 0 || base == nullptr) return;  // lent, or there was none left
  if (pool)
    pool->give(base);
  else if (device == Device::kCuda)
    device_arena().give(base);
  else
    BlockCache::global().give(base, block);
}

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  Tensor tensor = without_memory(std::move(shape), dtype, device);
  Storage& storage = *tensor.storage_;
  storage.block = block_size(static_cast<size_t>(storage.bytes), device);
  if (device == Device::kCuda) storage.pool = MemoryPool::current();
  storage.base =
      static_cast<char*>(storage.pool              ? storage.pool->take(storage.block)
                         : device == Device::kCuda ? device_arena().take(storage.block)
                                                   : BlockCache::global().take(storage.block));
  return tensor;
}

Tensor Tensor::without_memory(Shape shape, DType dtype, Device device) {
  for (int64_t d : shape.dims()) check(d >= 0, "Tensor: shape ", shape, " has a negative extent");
  Tensor tensor;
  tensor.numel_ = shape.numel();
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.device_ = device;
  tensor.storage_ = std::make_shared<Storage>();
  tensor.storage_->bytes = tensor.bytes();
  tensor.storage_->device = device;
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor tensor = empty(std::move(shape), dtype, device);
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
  Tensor tensor = empty(shape_, dtype_, device_);
  tensor.copy_from(*this);
  return tensor;
}

void Tensor::attach(const Tensor& lender) {
  check(defined() && !has_memory(), "Tensor::attach: ", shape_, " has memory already");
  check(lender.device_ == device_, "Tensor::attach: the lender lies on ",
        device_name(lender.device_), ", expected ", device_name(device_));
  check(lender.bytes() >= memory_bytes(), "Tensor::attach: the lender has ", lender.bytes(),
        " bytes, expected at least ", memory_bytes());
  storage_->base = lender.address();
  storage_->lender = lender.storage_;
}

void Tensor::throw_without_memory() const {
  throw std::invalid_argument(
      concat("Tensor: ", shape_, " has no memory: its contents were not kept"));
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  Tensor tensor = empty(shape_, dtype_, device);
  tensor.copy_from(*this);
  return tensor;
}

void Tensor::copy_from(const Tensor& from) {
  check(from.numel_ == numel_ && from.dtype_ == dtype_, "Tensor::copy_from: ", from.shape_, " ",
        dtype_name(from.dtype_), ", expected ", numel_, " elements of ", dtype_name(dtype_));
  copy_bytes(address(), device_, from.address(), from.device_, static_cast<size_t>(bytes()));
}

void Tensor::copy_from_host(const void* from) {
  copy_bytes(address(), device_, from, Device::kCpu, static_cast<size_t>(bytes()));
}

void Tensor::copy_to_host(void* to) const {
  copy_bytes(to, Device::kCpu, address(), device_, static_cast<size_t>(bytes()));
}

void Tensor::fill_zero() {
  if (numel_ == 0) return;
  if (device_ == Device::kCuda)
    return kernels::device_memory().zero(address(), static_cast<size_t>(bytes()));
  std::memset(address(), 0, static_cast<size_t>(bytes()));
}

void Tensor::release_cache() {
  BlockCache::global().release();
  if (kernels::has_cuda_backend()) device_arena().release();
}

}  // namespace moerl
