#include "kernels/cuda/emulator/fiber.h"

#include <sys/mman.h>

#include <new>

// The runtime is built without -fsanitize=thread even where the kernels are built with it: it
// reports the order of events itself, and its own bookkeeping is no race.
#if defined(MOERL_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#elif defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the callee-saved registers and the stack pointer of the running fiber and loads the
// other's: about 30 ns, where swapcontext makes two system calls.
extern "C" void moerl_simt_switch(void** save, void* load);
asm(R"(
.text
.globl moerl_simt_switch
.type moerl_simt_switch, @function
moerl_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size moerl_simt_switch, .-moerl_simt_switch
)");

namespace moerl::simt {
namespace {

constexpr size_t kStackSize = size_t{256} << 10;
constexpr int kSavedRegisters = 6;

}  // namespace

void prepare_fiber(Fiber& fiber, void (*entry)()) {
  if (fiber.stack == nullptr) {
    void* stack = ::mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) throw std::bad_alloc();
    fiber.stack = static_cast<char*>(stack);
    fiber.stack_size = kStackSize;
  }
#if defined(MOERL_SIMT_TSAN)
  if (fiber.sanitizer_state == nullptr) fiber.sanitizer_state = __tsan_create_fiber(0);
#elif defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_size);
#endif
  auto* top = reinterpret_cast<void**>(fiber.stack + fiber.stack_size);
  *--top = nullptr;  // entry finds the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

void adopt_thread([[maybe_unused]] Fiber& main) {
#if defined(MOERL_SIMT_TSAN)
  main.sanitizer_state = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool for_good) {
#if defined(MOERL_SIMT_TSAN)
  __tsan_switch_to_fiber(to.sanitizer_state, __tsan_switch_to_fiber_no_sync);
#elif defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, to.stack, to.stack_size);
#endif
  moerl_simt_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void enter_fiber([[maybe_unused]] Fiber& main) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &main.stack_size);
  main.stack = static_cast<char*>(const_cast<void*>(stack));
#endif
}

void order_release([[maybe_unused]] void* address) {
#if defined(MOERL_SIMT_TSAN)
  __tsan_release(address);
#endif
}
void order_acquire([[maybe_unused]] void* address) {
#if defined(MOERL_SIMT_TSAN)
  __tsan_acquire(address);
#endif
}

}  // namespace moerl::simt
