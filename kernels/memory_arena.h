#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace moerl {

/// A device gave no memory: says why, how much was asked for and what the arena has.
class OutOfDeviceMemory : public std::runtime_error {
  using runtime_error::runtime_error;
};

/// The memory that the tensors of kCuda lie in, sampling and training alike: chunks of the device's
/// memory, cut into blocks of any size; neighbours that are free become one block again. What runs
/// on the device runs in one order, so a block may go on to the next tensor while the last one's
/// kernels are still at it. Thread-safe.
class MemoryArena {
 public:
  /// Where chunks come from. allocate throws std::runtime_error if it cannot.
  struct Source {
    std::function<void*(size_t bytes)> allocate;
    std::function<void(void* chunk)> free;
  };
  static constexpr size_t kAlignment = 512, kSmallestChunk = size_t{256} << 20;
  /// @param smallest_chunk  that the source is asked for; 0: every block is a chunk of just its
  /// size,
  ///   which is freed at once, so that somebody else can watch it to the byte.
  explicit MemoryArena(Source source, size_t smallest_chunk = kSmallestChunk)
      : source_(std::move(source)), smallest_chunk_(smallest_chunk) {}
  ~MemoryArena();
  MemoryArena(const MemoryArena&) = delete;
  MemoryArena& operator=(const MemoryArena&) = delete;

  /// The smallest free block that will do, cut to size. Contents are whatever was there.
  /// @throws OutOfDeviceMemory.
  void* take(size_t bytes);
  /// @param block  of take().
  void give(void* block);
  /// Takes a chunk of so many bytes now, for later. Without effect where blocks are watched.
  /// @throws OutOfDeviceMemory.
  void reserve(size_t bytes);
  /// Gives back chunks of which nothing is in use.
  void release();

  struct Usage {
    int64_t reserved = 0;                      ///< bytes of the chunks
    int64_t used = 0;                          ///< of the blocks in use
    int64_t most_used = 0, most_reserved = 0;  ///< so far
  };
  Usage usage() const;

 private:
  struct Block {
    size_t size;
    bool is_free, begins_chunk;
  };
  using Blocks = std::map<char*, Block>;

  void add_chunk(size_t bytes);
  void grow(size_t bytes);
  void release_locked();
  void free_chunk(Blocks::iterator block);
  void insert_free(Blocks::iterator block) { free_.emplace(block->second.size, block->first); }
  void erase_free(Blocks::iterator block) { free_.erase({block->second.size, block->first}); }
  std::string describe(size_t wanted, const std::runtime_error& error) const;

  const Source source_;
  const size_t smallest_chunk_;
  mutable std::mutex mutex_;
  Blocks blocks_;                            // those of a chunk follow each other without a gap
  std::set<std::pair<size_t, char*>> free_;  // of them
  Usage usage_;
};

/// The one of kCuda. REQUIRES: the program has a backend.
MemoryArena& device_arena();

}  // namespace moerl
