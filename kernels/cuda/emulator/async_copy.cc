#include "kernels/cuda/emulator/async_copy.h"

#include <cstring>

#include "kernels/cuda/emulator/deferred.h"

namespace moerl::simt {
namespace {

constexpr size_t kBytes = 16;

struct Copy {
  void* to;
  const void* from;
  size_t valid;
};
Deferred<Copy> copies;

// Threads whose copies have landed without a fence behind them. The emulator's own bookkeeping: no
// race of the kernel.
bool is_unfenced[1024];
int num_unfenced = 0;

MOERL_SIMT_NO_TSAN void set_unfenced(int thread, bool value) {
  num_unfenced += int{value} - int{is_unfenced[thread]};
  is_unfenced[thread] = value;
}

}  // namespace

void async_copy_16(void* to, const void* from, uint32_t valid, Where where) {
  if (reinterpret_cast<uintptr_t>(to) % kBytes != 0 ||
      (valid != 0 && reinterpret_cast<uintptr_t>(from) % kBytes != 0))
    fail("cp.async", "an address is not a multiple of 16", where);
  // In words: the thread sanitizer does not see a memset of a known size.
  for (size_t i = 0; i < kBytes / sizeof(uint64_t); ++i)
    static_cast<uint64_t*>(to)[i] = ~uint64_t{0};
  copies.ask({to, from, valid});
}

void async_commit() { copies.commit(); }

void async_wait(unsigned groups) {
  const bool landed = copies.wait(groups, [](const Copy& copy) {
    std::memcpy(copy.to, copy.from, copy.valid);
    std::memset(static_cast<char*>(copy.to) + copy.valid, 0, kBytes - copy.valid);
  });
  if (landed) set_unfenced(thread_rank(), true);
}

void fence_async_copies() { set_unfenced(thread_rank(), false); }
MOERL_SIMT_NO_TSAN bool has_unfenced_async_copies() { return num_unfenced > 0; }

void reset_async_copies() {
  copies.forget();
  for (int thread = 0; num_unfenced > 0; ++thread) set_unfenced(thread, false);
}

void check_no_async_copies() {
  if (!copies.is_empty())
    fail("cp.async", "the thread returns with copies that it never waited for", Where::current());
}

}  // namespace moerl::simt
