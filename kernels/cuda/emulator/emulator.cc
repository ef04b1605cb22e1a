#include "kernels/cuda/emulator/emulator.h"

#include <immintrin.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/emulator/async_copy.h"
#include "kernels/cuda/emulator/fiber.h"
#include "kernels/cuda/emulator/options.h"
#include "kernels/cuda/emulator/warpgroup.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace moerl::simt {
namespace {

constexpr size_t kMaxSharedBytes = size_t{227} << 10, kSharedAlignment = 1024;  // of sm_90
constexpr unsigned kMaxThreads = 1024, kMaxGridYZ = 65535;

enum class State : uint8_t { kReady, kWaitsForGeneration, kWaitsForCondition, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kDone;
  const uint64_t* generation = nullptr;  // kWaitsForGeneration: until it is not `seen`
  uint64_t seen = 0;
  bool (*ready)(void*, unsigned) = nullptr;  // kWaitsForCondition
  void* object = nullptr;
  unsigned value = 0;
  const char* op = "";
  Where where;
  uint3 index{};
  int rank = 0;

  bool can_run() const {
    switch (state) {
      case State::kReady:
        return true;
      case State::kWaitsForGeneration:
        return *generation != seen;
      case State::kWaitsForCondition:
        return ready(object, value);
      case State::kDone:
        return false;
    }
    return false;
  }
};

struct Barrier {
  unsigned arrived = 0, count = 0;
  int given = 0, sum = 0;  // so far; in the generation before
  uint64_t generation = 0;
};

struct Meeting {
  uint32_t mask = 0, arrived = 0;  // mask 0: free
  const char* op = "";
  uint64_t generation = 0;
  void* arguments[32];
};
struct Warp {
  std::array<Meeting, 32> meetings;
  uint32_t live = 0;
};

/// The one emulated multiprocessor.
struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  Fiber main;
  Thread* current = nullptr;
  unsigned live = 0;
  const std::function<void()>* body = nullptr;
  unsigned char* shared = nullptr;
  std::string error;
  char block_order = 0;  // address of the edges from block to block
};
Machine machine;

std::string place(const char* op, const Where& where) {
  return std::string(op) + " at " + where.file_name() + ":" + std::to_string(where.line());
}

/// What the thread did is behind what the scheduler does when the block has ended or failed.
void give_up_turn() {
  order_release(&machine.main);
  switch_fiber(machine.current->fiber, machine.main);
}

[[noreturn]] void give_up_block(const std::string& why) {
  order_acquire(&machine.main);
  throw std::runtime_error("block (" + std::to_string(blockIdx.x) + ", " +
                           std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
                           "): " + why);
}

void wait_for_generation(const uint64_t& generation, const char* op, const Where& where) {
  Thread& thread = *machine.current;
  thread.state = State::kWaitsForGeneration;
  thread.generation = &generation;
  thread.seen = generation;
  thread.op = op;
  thread.where = where;
  give_up_turn();
}

void open(Barrier& barrier) {
  barrier.arrived = barrier.count = 0;
  barrier.sum = std::exchange(barrier.given, 0);
  ++barrier.generation;
}

/// Orders threads by the parity of the generation: one address for all would also order a late
/// waker after the arrivals at the barrier that follows, and hide a race.
void* edge(void* object, uint64_t generation) {
  return static_cast<char*>(object) + (generation & 1);
}

void thread_main() {
  enter_fiber(machine.main);
  order_acquire(&machine.block_order);
  (*machine.body)();
  check_no_async_copies();
  check_no_warpgroup_products();
  Thread& thread = *machine.current;
  thread.state = State::kDone;
  --machine.live;
  machine.warps[static_cast<size_t>(thread.rank / 32)].live &= ~(1u << thread.rank % 32);
  // Threads that have returned do not count at a barrier.
  Barrier& all = machine.barriers[0];
  if (all.arrived != 0 && all.count == 0 && all.arrived == machine.live) open(all);
  order_release(&machine.main);
  switch_fiber(thread.fiber, machine.main, true);
  __builtin_unreachable();
}

std::string describe_deadlock() {
  std::string text = "threads wait in vain:";
  std::string last;
  for (size_t i = 0; i < machine.threads.size() && i < blockDim.x * blockDim.y * blockDim.z; ++i) {
    const Thread& thread = *machine.threads[i];
    const std::string now =
        thread.state == State::kDone ? "returned" : place(thread.op, thread.where);
    if (now != last) text += "\n  thread " + std::to_string(i) + " and on: " + now;
    last = now;
  }
  return text;
}

/// Small and enough to mix the turns; std::shuffle differs between libraries.
struct Shuffler {
  uint32_t state;
  void operator()(std::vector<unsigned>& order) {
    for (size_t i = order.size() - 1; i > 0; --i) {
      state = state * 1664525u + 1013904223u;
      std::swap(order[i], order[(state >> 8) % (i + 1)]);
    }
  }
};

void start_block(unsigned count, size_t shared_bytes) {
  machine.live = count;
  machine.barriers.fill(Barrier{});
  reset_async_copies();
  reset_warpgroup_products();
  machine.warps.assign((count + 31) / 32, Warp{});
  std::memset(machine.shared, 0xFF, shared_bytes);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = *machine.threads[i];
    thread.rank = static_cast<int>(i);
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    thread.state = State::kReady;
    machine.warps[i / 32].live |= 1u << i % 32;
    prepare_fiber(thread.fiber, thread_main);
  }
  order_release(&machine.block_order);
}

void run_block(std::vector<unsigned>& order, Shuffler& shuffle) {
  while (machine.live > 0) {
    bool ran = false;
    if (options().order == ThreadOrder::kRandom) shuffle(order);
    for (unsigned i : order) {
      Thread& thread = *machine.threads[i];
      if (!thread.can_run()) continue;
      thread.state = State::kReady;
      ran = true;
      machine.current = &thread;
      threadIdx = thread.index;
      switch_fiber(machine.main, thread.fiber);
      if (!machine.error.empty()) give_up_block(std::exchange(machine.error, {}));
    }
    if (!ran) give_up_block(describe_deadlock());
  }
  order_acquire(&machine.main);
}

/// Dynamic shared memory; the address sanitizer watches what lies behind it.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes) {
    const size_t padded = (bytes / kSharedAlignment + 2) * kSharedAlignment;
    machine.shared = static_cast<unsigned char*>(std::aligned_alloc(kSharedAlignment, padded));
    if (machine.shared == nullptr) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)
    tail_ = padded - bytes;
    __asan_poison_memory_region(machine.shared + bytes, tail_);
#endif
  }
  ~SharedMemory() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(machine.shared + bytes_, tail_);
#endif
    std::free(machine.shared);
    machine.shared = nullptr;
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

 private:
  [[maybe_unused]] size_t bytes_, tail_ = 0;
};

/// Denormals are flushed, as in kernels built with -ftz=true and in the CPU's kernels.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

}  // namespace

Options& options() {
  static Options instance;
  return instance;
}

Sanitizer sanitizer() {
#if defined(MOERL_SIMT_TSAN)
  return Sanitizer::kThread;
#elif defined(__SANITIZE_ADDRESS__)
  return Sanitizer::kAddress;
#else
  return Sanitizer::kNone;
#endif
}

unsigned char* shared_memory() { return machine.shared; }
int thread_rank() { return machine.current->rank; }

void fail(const char* op, const std::string& message, Where where) {
  machine.error =
      "thread " + std::to_string(thread_rank()) + ", " + place(op, where) + ": " + message;
  give_up_turn();
  std::abort();  // the scheduler does not come back to a kernel that has failed
}

void wait_until(bool (*ready)(void*, unsigned), void* object, unsigned value, const char* op,
                Where where) {
  if (ready(object, value)) return;
  Thread& thread = *machine.current;
  thread.state = State::kWaitsForCondition;
  thread.ready = ready;
  thread.object = object;
  thread.value = value;
  thread.op = op;
  thread.where = where;
  give_up_turn();
}

int barrier(unsigned id, unsigned count, Where where, int given) {
  const char* op = count == 0 ? "__syncthreads" : "barrier";
  Barrier& barrier = machine.barriers[id];
  if (barrier.arrived != 0 && barrier.count != count)
    fail(op,
         "barrier " + std::to_string(id) + " is used for " + std::to_string(count) +
             " threads, before for " + std::to_string(barrier.count),
         where);
  barrier.count = count;
  barrier.given += given;
  const uint64_t generation = barrier.generation;
  order_release(edge(&barrier, generation));
  if (++barrier.arrived == (count == 0 ? machine.live : count))
    open(barrier);
  else
    wait_for_generation(barrier.generation, op, where);
  order_acquire(edge(&barrier, generation));
  return barrier.sum;
}

void collective(uint32_t mask, const char* op, void* argument, Combine combine, bool orders_memory,
                Where where) {
  Warp& warp = machine.warps[static_cast<size_t>(thread_rank() / 32)];
  const int lane = thread_rank() % 32;
  if (!(mask >> lane & 1)) fail(op, "the calling lane is not in its own mask", where);
  if (mask & ~warp.live) fail(op, "the mask names lanes that have returned or never were", where);
  Meeting* meeting = nullptr;
  for (Meeting& other : warp.meetings) {
    if (!(other.mask & mask)) continue;
    if (other.mask != mask || std::strcmp(other.op, op) != 0)
      fail(op, std::string("lanes of the warp wait at ") + other.op + " or with another mask",
           where);
    meeting = &other;
  }
  if (meeting == nullptr) {
    meeting = warp.meetings.data();
    while (meeting->mask != 0) ++meeting;  // 32 lanes are in at most 32 meetings
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->op = op;
  }
  meeting->arguments[lane] = argument;
  meeting->arrived |= 1u << lane;
  const uint64_t generation = meeting->generation;
  if (orders_memory) order_release(edge(meeting, generation));
  if (meeting->arrived == mask) {
    combine(meeting->arguments, mask);
    meeting->mask = 0;
    ++meeting->generation;
  } else {
    wait_for_generation(meeting->generation, op, where);
  }
  if (orders_memory) order_acquire(edge(meeting, generation));
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  const unsigned count = block.x * block.y * block.z;
  if (count == 0 || count > kMaxThreads)
    throw std::runtime_error("blocks of " + std::to_string(count) + " threads, expected [1, 1024]");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ)
    throw std::runtime_error("the grid is empty, or beyond 65535 in y or z");
  if (shared_bytes > kMaxSharedBytes)
    throw std::runtime_error(std::to_string(shared_bytes) +
                             " bytes of shared memory, expected at most 232448");
  static std::mutex turn;  // of the threads of the host: there is one machine
  const std::lock_guard lock(turn);
  const FlushDenormals flush;
  const SharedMemory shared(shared_bytes);
  while (machine.threads.size() < count) machine.threads.push_back(std::make_unique<Thread>());
  machine.body = &thread;
  machine.error.clear();
  adopt_thread(machine.main);
  gridDim = grid;
  blockDim = block;
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i)
    order[i] = options().order == ThreadOrder::kReverse ? count - 1 - i : i;
  Shuffler shuffle{options().seed};
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = options().order == ThreadOrder::kReverse ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    start_block(count, shared_bytes);
    run_block(order, shuffle);
  }
}

}  // namespace moerl::simt
