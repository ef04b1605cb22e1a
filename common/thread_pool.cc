#include "common/thread_pool.h"

#include <immintrin.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "common/check.h"

namespace moerl {
namespace {

constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;

/// Flushes denormals on this thread for as long as it lives.
class ScopedFlushDenormals {
 public:
  ScopedFlushDenormals() : saved_(_mm_getcsr()) {
    _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
  }
  ~ScopedFlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

}  // namespace

// A loop is one ticket: its number in the upper half, the next chunk in the lower. A member takes a
// chunk by raising the ticket, which fails once the loop is over, so a member that comes late
// touches nothing and nobody waits for it: the caller leaves when all chunks are done. Members spin
// for a while before they sleep, as the loops of one decoding step follow each other within
// microseconds.
struct ThreadPool::State {
  std::mutex loop_mutex;  // one loop at a time
  std::mutex mutex;
  std::condition_variable wake, done;
  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> finished{0};
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  // Of the present loop; valid for a member whose exchange of the ticket succeeds after reading
  // them.
  std::atomic<int64_t> num_chunks{0};
  std::atomic<void (*)(const void*, int64_t)> body{nullptr};
  std::atomic<const void*> context{nullptr};
  std::exception_ptr error;
  std::vector<std::thread> threads;
  int spins = 0;

  static constexpr uint64_t kClosed = 0xFFFFFFFF;  // no chunk has this number
  static constexpr uint64_t loop_of(uint64_t t) { return t >> 32; }
  static constexpr int64_t chunk_of(uint64_t t) { return static_cast<int64_t>(t & kClosed); }

  /// Works on the present loop until it has no chunk left; returns the loop's number.
  uint64_t take_chunks() {
    uint64_t t = ticket.load(std::memory_order_acquire);
    const uint64_t loop = loop_of(t);
    while (true) {
      const int64_t n = num_chunks.load(std::memory_order_acquire);
      const auto run_chunk = body.load(std::memory_order_acquire);
      const void* argument = context.load(std::memory_order_acquire);
      if (loop_of(t) != loop || chunk_of(t) >= n) return loop;
      if (!ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel)) continue;
      try {
        run_chunk(argument, chunk_of(t));
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 == n) {
        std::lock_guard lock(mutex);
        done.notify_one();
      }
      t = ticket.load(std::memory_order_acquire);
    }
  }

  bool has_loop_after(uint64_t seen) const {
    return loop_of(ticket.load(std::memory_order_acquire)) != seen || stop.load();
  }

  void member() {
    ScopedFlushDenormals flush;
    uint64_t seen = 0;
    while (true) {
      for (int i = 0; i < spins && !has_loop_after(seen); ++i) _mm_pause();
      if (!has_loop_after(seen)) {
        std::unique_lock lock(mutex);
        ++sleepers;
        wake.wait(lock, [&] { return has_loop_after(seen); });
        --sleepers;
      }
      if (stop) return;
      seen = take_chunks();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  check(num_threads >= 1, "ThreadPool: num_threads is ", num_threads, ", expected >= 1");
  // Spinning only helps while every member has a core of its own.
  const bool has_cores = num_threads <= static_cast<int>(std::thread::hardware_concurrency());
  state_->spins = has_cores ? 4000 : 0;
  for (int i = 1; i < num_threads; ++i)
    state_->threads.emplace_back([state = state_.get()] { state->member(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(int64_t num_chunks, void (*body)(const void*, int64_t), const void* context) {
  if (num_chunks <= 0) return;
  State& s = *state_;
  std::lock_guard loop_lock(s.loop_mutex);
  ScopedFlushDenormals flush;
  if (s.threads.empty() || num_chunks == 1) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) body(context, chunk);
    return;
  }
  check_internal(num_chunks < static_cast<int64_t>(State::kClosed), "a parallel loop of ",
                 num_chunks, " chunks");
  const uint64_t loop = State::loop_of(s.ticket.load(std::memory_order_relaxed)) + 1;
  s.ticket.store(loop << 32 | State::kClosed, std::memory_order_release);
  s.num_chunks.store(num_chunks, std::memory_order_release);
  s.body.store(body, std::memory_order_release);
  s.context.store(context, std::memory_order_release);
  s.error = nullptr;
  s.finished.store(0, std::memory_order_relaxed);
  {
    // Under the lock: a member about to sleep must see the new loop or be seen as a sleeper.
    std::lock_guard lock(s.mutex);
    s.ticket.store((loop + 1) << 32, std::memory_order_release);
  }
  if (s.sleepers.load() > 0) s.wake.notify_all();
  s.take_chunks();
  const auto all_done = [&] { return s.finished.load(std::memory_order_acquire) == num_chunks; };
  for (int i = 0; i < s.spins && !all_done(); ++i) _mm_pause();
  {
    // Also when all is done: the last member may still be inside its notification.
    std::unique_lock lock(s.mutex);
    s.done.wait(lock, all_done);
  }
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace moerl
