#include "kernels/cuda/emulator/async_copy.h"

#include <array>
#include <cstring>
#include <vector>

namespace moerl::simt {
namespace {

constexpr size_t kBytes = 16;

struct Copy {
  void* to;
  const void* from;
  size_t valid;
};
struct Queue {
  std::vector<Copy> copies;
  std::vector<size_t> group_ends;  // of the open groups, as counts of copies
};
std::array<Queue, 1024> queues;

Queue& my_queue() { return queues[static_cast<size_t>(thread_rank())]; }

}  // namespace

void async_copy_16(void* to, const void* from, uint32_t valid, Where where) {
  if (reinterpret_cast<uintptr_t>(to) % kBytes != 0 ||
      (valid != 0 && reinterpret_cast<uintptr_t>(from) % kBytes != 0))
    fail("cp.async", "an address is not a multiple of 16", where);
  // In words: the thread sanitizer does not see a memset of a known size.
  for (size_t i = 0; i < kBytes / sizeof(uint64_t); ++i)
    static_cast<uint64_t*>(to)[i] = ~uint64_t{0};
  my_queue().copies.push_back({to, from, valid});
}

void async_commit() { my_queue().group_ends.push_back(my_queue().copies.size()); }

void async_wait(unsigned groups) {
  Queue& queue = my_queue();
  if (queue.group_ends.size() <= groups) return;
  const size_t done = queue.group_ends.size() - groups, end = queue.group_ends[done - 1];
  for (size_t i = 0; i < end; ++i) {
    const Copy& copy = queue.copies[i];
    std::memcpy(copy.to, copy.from, copy.valid);
    std::memset(static_cast<char*>(copy.to) + copy.valid, 0, kBytes - copy.valid);
  }
  queue.copies.erase(queue.copies.begin(), queue.copies.begin() + static_cast<std::ptrdiff_t>(end));
  queue.group_ends.erase(queue.group_ends.begin(),
                         queue.group_ends.begin() + static_cast<std::ptrdiff_t>(done));
  for (size_t& group_end : queue.group_ends) group_end -= end;
}

void reset_async_copies() {
  for (Queue& queue : queues) {
    queue.copies.clear();
    queue.group_ends.clear();
  }
}

void check_no_async_copies() {
  if (!my_queue().copies.empty())
    fail("cp.async", "the thread returns with copies that it never waited for", Where::current());
}

}  // namespace moerl::simt
