#include "kernels/memory_pool.h"

#include <utility>

#include "kernels/memory_arena.h"

namespace moerl {
namespace {

thread_local std::shared_ptr<MemoryPool> current_pool;

}  // namespace

MemoryPool::~MemoryPool() {
  for (const auto& [block, size] : blocks_) device_arena().give(block);
}

void* MemoryPool::take(size_t bytes) {
  // The smallest that will do: graphs of fewer rows live in the blocks of those of more.
  if (const auto fit = unused_.lower_bound(bytes); fit != unused_.end()) {
    void* block = fit->second;
    unused_.erase(fit);
    return block;
  }
  void* block = device_arena().take(bytes);
  blocks_.emplace(block, bytes);
  bytes_ += static_cast<int64_t>(bytes);
  return block;
}

void MemoryPool::give(void* block) {
  if (recycles_) unused_.emplace(blocks_.at(block), block);
}

MemoryPool::Scope::Scope(std::shared_ptr<MemoryPool> pool)
    : outer_(std::exchange(current_pool, std::move(pool))) {}
MemoryPool::Scope::~Scope() { current_pool = std::move(outer_); }

const std::shared_ptr<MemoryPool>& MemoryPool::current() { return current_pool; }

}  // namespace moerl
