#include "kernels/memory_arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "common/rng.h"

namespace moerl {
namespace {

constexpr size_t kUnit = MemoryArena::kAlignment;

/// A device with so many bytes, of which each chunk that was given out is known.
class FakeDevice {
 public:
  explicit FakeDevice(size_t bytes) : left_(bytes) {}
  ~FakeDevice() { EXPECT_TRUE(chunks.empty()) << chunks.size() << " chunks were not freed"; }
  MemoryArena::Source source() {
    return {[this](size_t bytes) -> void* {
              if (bytes > left_) throw std::runtime_error("the device is full");
              left_ -= bytes;
              void* chunk = std::aligned_alloc(kUnit, (bytes + kUnit) / kUnit * kUnit);
              chunks[chunk] = bytes;
              return chunk;
            },
            [this](void* chunk) {
              left_ += chunks.at(chunk);
              chunks.erase(chunk);
              std::free(chunk);
            }};
  }
  std::map<void*, size_t> chunks;

 private:
  size_t left_;
};

TEST(MemoryArenaTest, NeighboursThatAreFreeBecomeOneBlock) {
  FakeDevice device(100 * kUnit);
  MemoryArena arena(device.source(), 8 * kUnit);
  std::vector<void*> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(arena.take(kUnit));
  EXPECT_EQ(device.chunks.size(), 1u);
  for (int i : {1, 3, 5, 2, 4}) arena.give(blocks[static_cast<size_t>(i)]);
  void* five = arena.take(5 * kUnit);  // where those were
  EXPECT_EQ(five, blocks[1]);
  EXPECT_EQ(device.chunks.size(), 1u);
  for (void* block : {five, blocks[0], blocks[6], blocks[7]}) arena.give(block);
  void* all = arena.take(8 * kUnit);
  EXPECT_EQ(all, blocks[0]);
  arena.give(all);
}

TEST(MemoryArenaTest, TheSmallestBlockThatWillDoIsCutAndChunksStayApart) {
  FakeDevice device(100 * kUnit);
  MemoryArena arena(device.source(), 10 * kUnit);
  void* four = arena.take(4 * kUnit);
  void* wall = arena.take(kUnit);
  void* rest = arena.take(5 * kUnit);
  void* large = arena.take(30 * kUnit);
  EXPECT_EQ(device.chunks.size(), 2u);
  arena.give(four);
  arena.give(rest);
  EXPECT_EQ(arena.take(3 * kUnit), four);  // not of the five, nor of a new chunk
  EXPECT_EQ(arena.take(5 * kUnit - 1), rest);
  arena.give(large);
  EXPECT_EQ(arena.usage().used, static_cast<int64_t>(9 * kUnit));
  arena.release();  // the large chunk alone
  EXPECT_EQ(device.chunks.size(), 1u);
  EXPECT_EQ(arena.usage().reserved, static_cast<int64_t>(10 * kUnit));
  EXPECT_EQ(arena.usage().most_used, static_cast<int64_t>(40 * kUnit));
  EXPECT_EQ(arena.usage().most_reserved, static_cast<int64_t>(40 * kUnit));
  for (void* block : {four, wall, rest}) arena.give(block);
}

TEST(MemoryArenaTest, WhatWasReservedServesWithoutTheDevice) {
  FakeDevice device(64 * kUnit);
  MemoryArena arena(device.source(), 8 * kUnit);
  arena.reserve(64 * kUnit);
  EXPECT_EQ(device.chunks.size(), 1u);
  void* a = arena.take(40 * kUnit);
  void* b = arena.take(24 * kUnit);
  arena.give(a);
  arena.give(b);
  EXPECT_EQ(arena.usage().reserved, static_cast<int64_t>(64 * kUnit));
}

TEST(MemoryArenaTest, AFullDeviceGetsItsUnusedChunksBackFirst) {
  constexpr size_t kHalf = size_t{1} << 19;  // MiB
  FakeDevice device(20 * kHalf);
  MemoryArena arena(device.source(), 8 * kHalf);
  void* a = arena.take(8 * kHalf);
  void* b = arena.take(8 * kHalf);
  arena.give(a);
  void* c = arena.take(12 * kHalf);  // more than is left, no more than is left and unused
  EXPECT_EQ(device.chunks.size(), 2u);
  try {
    arena.take(5 * kHalf);
    ADD_FAILURE() << "there was room";
  } catch (const OutOfDeviceMemory& error) {
    EXPECT_STREQ(error.what(),
                 "no 2.5 MiB more of device memory (the device is full); moerl has 10.0 MiB in use "
                 "and 0.0 MiB free in pieces of at most 0.0 MiB");
  }
  EXPECT_THROW(arena.reserve(kUnit), OutOfDeviceMemory);
  arena.give(b);
  arena.give(c);
  arena.give(arena.take(5 * kHalf));  // and goes on
}

TEST(MemoryArenaTest, WatchedBlocksAreChunksOfTheirSize) {
  FakeDevice device(1000);
  MemoryArena arena(device.source(), 0);
  arena.reserve(900);
  EXPECT_TRUE(device.chunks.empty());
  void* a = arena.take(7);
  void* none = arena.take(0);
  EXPECT_EQ(device.chunks.at(a), 7u);
  EXPECT_EQ(device.chunks.at(none), 0u);
  arena.give(a);
  EXPECT_EQ(device.chunks.size(), 1u);
  arena.give(none);
  EXPECT_EQ(arena.usage().most_used, 7);
}

TEST(MemoryArenaTest, BlocksNeverOverlapAndAllComeBack) {
  FakeDevice device(size_t{1} << 24);
  MemoryArena arena(device.source(), 64 * kUnit);
  Rng rng(5);
  struct Taken {
    unsigned char* data;
    size_t size;
    int mark;
  };
  std::vector<Taken> taken;
  for (int i = 0; i < 4000; ++i) {
    if (taken.size() < 60 && rng.below(2) == 0) {
      const size_t size = 1 + rng.below(i % 7 == 0 ? 100000 : 3000);
      auto* data = static_cast<unsigned char*>(arena.take(size));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % kUnit, 0u);
      std::memset(data, i % 251, size);
      taken.push_back({data, size, i % 251});
    } else if (!taken.empty()) {
      const size_t which = rng.below(static_cast<uint32_t>(taken.size()));
      const Taken one = taken[which];
      ASSERT_TRUE(std::all_of(one.data, one.data + one.size,
                              [&](unsigned char byte) { return byte == one.mark; }));
      arena.give(one.data);
      taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(which));
    }
    if (i % 500 == 0) arena.release();
  }
  for (const Taken& one : taken) arena.give(one.data);
  EXPECT_EQ(arena.usage().used, 0);
  arena.release();
  EXPECT_TRUE(device.chunks.empty());
}

}  // namespace
}  // namespace moerl
