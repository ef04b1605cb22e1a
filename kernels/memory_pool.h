#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "kernels/cuda/backend.h"

namespace moerl {

/// Memory of kCuda's arena (memory_arena.h) that is set apart: it goes from tensor to tensor of
/// those that are made under a Scope of the pool, and to nobody else before the pool ends. What a
/// CUDA graph works in: the graph writes there at every launch, whichever tensors are left. Thread
/// safety: of one thread at a time, with all tensors that lie in it.
class MemoryPool {
 public:
  /// @param recycles  tensors take over the memory of those that have gone. Not so in the emulator
  ///   unless asked for: there each starts as NaN and is watched to the byte.
  explicit MemoryPool(bool recycles = !kernels::device_memory().is_emulated)
      : recycles_(recycles) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// Contents are whatever was there. @throws OutOfDeviceMemory.
  void* take(size_t bytes);
  void give(void* block);
  /// Taken from the arena.
  int64_t bytes() const { return bytes_; }

  /// While it lives, the tensors that this thread makes on kCuda lie in the pool, and keep it.
  class Scope {
   public:
    explicit Scope(std::shared_ptr<MemoryPool> pool);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::shared_ptr<MemoryPool> outer_;
  };
  /// Of this thread; null outside of all scopes.
  static const std::shared_ptr<MemoryPool>& current();

 private:
  const bool recycles_;
  std::map<void*, size_t> blocks_;       // all, with their sizes
  std::multimap<size_t, void*> unused_;  // of them, those that no tensor has
  int64_t bytes_ = 0;
};

}  // namespace moerl
