#include "kernels/memory_arena.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "common/check.h"
#include "kernels/cuda/backend.h"

namespace moerl {
namespace {

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::string mib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

}  // namespace

MemoryArena::~MemoryArena() { release(); }

void* MemoryArena::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const size_t size =
      smallest_chunk_ == 0 ? bytes : round_up(std::max<size_t>(bytes, 1), kAlignment);
  auto fit = free_.lower_bound({size, nullptr});
  if (fit == free_.end()) {
    grow(size);
    fit = free_.lower_bound({size, nullptr});
  }
  const auto block = blocks_.find(fit->second);
  free_.erase(fit);
  if (block->second.size > size) {
    const auto rest = blocks_.emplace_hint(std::next(block), block->first + size,
                                           Block{block->second.size - size, true, false});
    insert_free(rest);
    block->second.size = size;
  }
  block->second.is_free = false;
  usage_.used += static_cast<int64_t>(size);
  usage_.most_used = std::max(usage_.most_used, usage_.used);
  return block->first;
}

void MemoryArena::give(void* memory) {
  const std::lock_guard lock(mutex_);
  auto block = blocks_.find(static_cast<char*>(memory));
  check_internal(block != blocks_.end() && !block->second.is_free,
                 "MemoryArena: a block that is not in use was given back");
  usage_.used -= static_cast<int64_t>(block->second.size);
  if (smallest_chunk_ == 0) return free_chunk(block);
  block->second.is_free = true;
  if (const auto next = std::next(block);
      next != blocks_.end() && next->second.is_free && !next->second.begins_chunk) {
    erase_free(next);
    block->second.size += next->second.size;
    blocks_.erase(next);
  }
  if (!block->second.begins_chunk && std::prev(block)->second.is_free) {
    const auto before = std::prev(block);
    erase_free(before);
    before->second.size += block->second.size;
    blocks_.erase(block);
    block = before;
  }
  insert_free(block);
}

void MemoryArena::reserve(size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (smallest_chunk_ == 0 || bytes == 0) return;
  try {
    add_chunk(round_up(bytes, kAlignment));
  } catch (const std::runtime_error& error) {
    throw OutOfDeviceMemory(describe(bytes, error));
  }
}

void MemoryArena::release() {
  const std::lock_guard lock(mutex_);
  release_locked();
}

MemoryArena::Usage MemoryArena::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

void MemoryArena::add_chunk(size_t bytes) {
  auto* chunk = static_cast<char*>(source_.allocate(bytes));
  insert_free(blocks_.emplace(chunk, Block{bytes, true, true}).first);
  usage_.reserved += static_cast<int64_t>(bytes);
  usage_.most_reserved = std::max(usage_.most_reserved, usage_.reserved);
}

/// Makes a free block of at least so many bytes. Where the device is full, unused chunks go back
/// first, and the new one is no larger than it must be.
void MemoryArena::grow(size_t bytes) {
  try {
    return add_chunk(std::max(bytes, smallest_chunk_));
  } catch (const std::runtime_error&) {
    release_locked();
  }
  try {
    add_chunk(bytes);
  } catch (const std::runtime_error& error) {
    throw OutOfDeviceMemory(describe(bytes, error));
  }
}

void MemoryArena::release_locked() {
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto next = std::next(block);
    const bool is_whole =
        block->second.begins_chunk && (next == blocks_.end() || next->second.begins_chunk);
    if (is_whole && block->second.is_free) {
      erase_free(block);
      free_chunk(block);
    }
    block = next;
  }
}

void MemoryArena::free_chunk(Blocks::iterator block) {
  usage_.reserved -= static_cast<int64_t>(block->second.size);
  source_.free(block->first);
  blocks_.erase(block);
}

std::string MemoryArena::describe(size_t wanted, const std::runtime_error& error) const {
  const int64_t largest = free_.empty() ? 0 : static_cast<int64_t>(free_.rbegin()->first);
  return concat("no ", mib(static_cast<int64_t>(wanted)), " more of device memory (", error.what(),
                "); moerl has ", mib(usage_.used), " in use and ",
                mib(usage_.reserved - usage_.used), " free in pieces of at most ", mib(largest));
}

MemoryArena& device_arena() {
  // Never destroyed: tensors may outlive statics. The emulator's blocks start as NaN, each of them
  // watched to the byte.
  static auto* arena =
      new MemoryArena({[](size_t bytes) { return kernels::device_memory().allocate(bytes); },
                       [](void* chunk) { kernels::device_memory().free(chunk); }},
                      kernels::device_memory().is_emulated ? 0 : MemoryArena::kSmallestChunk);
  return *arena;
}

}  // namespace moerl
