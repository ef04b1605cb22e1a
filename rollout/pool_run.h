#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "rollout/rollout_client.h"
#include "rollout/worker_pool.h"

namespace moerl {

/// A worker and what the pool knows of it.
struct PoolWorker {
  PoolWorker(std::shared_ptr<grpc::Channel> channel, std::string name)
      : client(std::move(channel), std::move(name)) {}

  RolloutClient client;
  std::string numeric_family;
  bool is_alive = false;     ///< no call has failed since it last answered
  std::exception_ptr error;  ///< of the call that failed
};

/// One WorkerPool::generate from start to end: an event loop on the caller's thread, fed by the
/// callbacks of the calls under way.
class PoolRun {
 public:
  PoolRun(const WorkerPoolConfig& config, std::vector<std::unique_ptr<PoolWorker>>& workers,
          const GenerateRequest& request,
          const std::function<void(const Completion&)>& on_completion);
  ~PoolRun();
  std::vector<Completion> run();

 private:
  using Clock = std::chrono::steady_clock;
  /// What one call asks for: samples [first, first + count) of each prompt.
  struct Portion {
    std::vector<size_t> prompts;
    int64_t first = 0, count = 0;
    int64_t num_sequences() const { return static_cast<int64_t>(prompts.size()) * count; }
  };
  struct Load {
    int64_t inflight = 0;  ///< sequences
    Clock::time_point not_before;
    Clock::duration backoff{};
  };
  struct Call {
    size_t worker = 0;
    Portion portion;
    std::unique_ptr<GenerateCall> handle;
  };
  /// A completion of a call, or its end.
  struct Event {
    uint64_t call = 0;
    std::optional<Completion> completion;
    std::exception_ptr error;
  };

  void split_work();
  void hand_out();
  std::optional<size_t> choose_worker(int64_t num_sequences) const;
  void start_call(size_t worker, Portion portion);
  void push(Event event);
  std::optional<Event> wait();
  void take_completion(const Call& call, Completion completion);
  void end_call(uint64_t id, std::exception_ptr error);
  void worker_failed(size_t worker, std::exception_ptr error);
  std::vector<Portion> missing_of(const Portion& portion) const;
  size_t slot(size_t prompt, int64_t sample_index) const;
  [[noreturn]] void fail_without_workers() const;

  const WorkerPoolConfig& config_;
  std::vector<std::unique_ptr<PoolWorker>>& workers_;
  const GenerateRequest& request_;
  const std::function<void(const Completion&)>& on_completion_;

  std::unordered_map<uint64_t, size_t> prompt_index_;
  std::vector<std::optional<Completion>> results_;  ///< [prompt][sample]
  int64_t missing_ = 0;
  std::optional<int64_t> version_;  ///< of the completions so far
  std::vector<Load> loads_;
  std::deque<Portion> portions_;  ///< not handed out
  Clock::time_point last_progress_;
  uint64_t next_call_ = 0;

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;  // guarded by mutex_
  std::map<uint64_t, Call>
      calls_;  ///< last: their ends wait for the callbacks, which use the above
};

}  // namespace moerl
