#pragma once
// Ranks that are threads of one process: what a parallel run computes, without its processes.
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "policy/parallel/communicator.h"

namespace moerl::testing {

/// Runs body(comm) on `size` threads at once, each a rank, and returns when all have returned.
/// The first exception is thrown on; a rank that waits for one that has thrown gets one too.
class ThreadRanks {
 public:
  static void run(int size, const std::function<void(Communicator&)>& body) {
    ThreadRanks ranks(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
      threads.emplace_back([&ranks, &body, r] {
        try {
          Rank rank(ranks, r);
          body(rank);
        } catch (...) {
          std::lock_guard lock(ranks.mutex_);
          if (!ranks.error_) ranks.error_ = std::current_exception();
          ranks.changed_.notify_all();
        }
      });
    for (std::thread& thread : threads) thread.join();
    if (ranks.error_) std::rethrow_exception(ranks.error_);
  }

 private:
  using Sent = std::span<const std::span<const std::byte>>;

  class Rank final : public Communicator {
   public:
    Rank(ThreadRanks& ranks, int rank) : ranks_(ranks), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(ranks_.sent_.size()); }
    void abort(const std::string&) override {}
    void all_to_all_v(Sent send, std::span<const std::span<std::byte>> recv) override {
      ranks_.sent_[static_cast<size_t>(rank_)] = send;
      ranks_.meet();  // all have said what they send
      for (size_t r = 0; r < recv.size(); ++r) {
        const std::span<const std::byte> from = ranks_.sent_[r][static_cast<size_t>(rank_)];
        if (from.size() != recv[r].size())
          throw std::logic_error("all_to_all_v: the ranks disagree about a size");
        if (!from.empty()) std::memcpy(recv[r].data(), from.data(), from.size());
      }
      ranks_.meet();  // all have read
    }

   private:
    ThreadRanks& ranks_;
    int rank_;
  };

  explicit ThreadRanks(int size) : sent_(static_cast<size_t>(size)) {}

  void meet() {
    std::unique_lock lock(mutex_);
    const int meeting = meetings_;
    if (++arrived_ == static_cast<int>(sent_.size())) {
      arrived_ = 0;
      ++meetings_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return meetings_ != meeting || error_; });
    if (meetings_ == meeting) throw std::runtime_error("another rank has failed");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Sent> sent_;
  int arrived_ = 0, meetings_ = 0;
  std::exception_ptr error_;
};

}  // namespace moerl::testing
