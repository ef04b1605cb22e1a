#pragma once
#include <cstddef>

namespace moerl::simt {

/// A thread of control with a stack of its own, switched by hand. The sanitizers are told of every
/// switch.
struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  size_t stack_size = 0;
  void* sanitizer_state = nullptr;  ///< of the thread sanitizer
};

/// Lets the fiber begin at entry() when it is next switched to; what it did before is forgotten.
/// entry must not return.
void prepare_fiber(Fiber& fiber, void (*entry)());
/// Makes `main` the fiber of the calling thread.
void adopt_thread(Fiber& main);
/// Leaves `from`, which must be the running one, for `to`. With `for_good`, from's stack is dead.
void switch_fiber(Fiber& from, Fiber& to, bool for_good = false);
/// The first thing that a fresh fiber calls; it was switched to from `main`.
void enter_fiber(Fiber& main);

// Happens-before edges of the thread sanitizer; nothing without it.
void order_release(void* address);
void order_acquire(void* address);

}  // namespace moerl::simt
