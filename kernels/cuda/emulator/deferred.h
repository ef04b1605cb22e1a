#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/cuda/emulator/emulator.h"

namespace moerl::simt {

/// What the threads of a block have asked for and not waited for: work in groups, each closed by a
/// commit, that is done when the thread waits for its group.
template <typename Work>
class Deferred {
 public:
  void ask(Work work) {
    is_used_.store(true, std::memory_order_relaxed);
    mine().work.push_back(std::move(work));
  }
  void commit() { mine().ends.push_back(mine().work.size()); }
  /// Does all but the thread's youngest `groups` groups, in order. @return whether there was any.
  template <typename Do>
  bool wait(unsigned groups, const Do& each) {
    Queue& queue = mine();
    if (queue.ends.size() <= groups) return false;
    const size_t done = queue.ends.size() - groups, end = queue.ends[done - 1];
    for (size_t i = 0; i < end; ++i) each(queue.work[i]);
    queue.work.erase(queue.work.begin(), queue.work.begin() + static_cast<std::ptrdiff_t>(end));
    queue.ends.erase(queue.ends.begin(), queue.ends.begin() + static_cast<std::ptrdiff_t>(done));
    for (size_t& later : queue.ends) later -= end;
    return end > 0;
  }
  /// Of this thread.
  bool is_empty() { return mine().work.empty(); }
  /// Of all. Called for every block: little to do where none has asked.
  void forget() {
    if (!is_used_.exchange(false, std::memory_order_relaxed)) return;
    for (Queue& queue : queues_) {
      queue.work.clear();
      queue.ends.clear();
    }
  }

 private:
  struct Queue {
    std::vector<Work> work;
    std::vector<size_t> ends;  // of the groups that are under way, as counts of work
  };
  Queue& mine() { return queues_[static_cast<size_t>(thread_rank())]; }

  std::array<Queue, 1024> queues_;
  std::atomic<bool> is_used_ = false;
};

}  // namespace moerl::simt
