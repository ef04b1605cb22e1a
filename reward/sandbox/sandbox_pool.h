#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "reward/sandbox/sandbox.h"

namespace moerl::reward {

/// What a sandbox is used for. A sandbox of programs never sees what tests expect.
enum class SandboxUse { kPrograms, kTests };

/// Warm sandboxes, started when there is no idle one and kept for the next job. Their number grows
/// to the number of threads that use the pool at once. Thread safety: all methods.
class SandboxPool {
 public:
  explicit SandboxPool(IsolationConfig config);
  /// REQUIRES: every lease is over.
  ~SandboxPool();
  SandboxPool(const SandboxPool&) = delete;
  SandboxPool& operator=(const SandboxPool&) = delete;

  /// A sandbox for one user at a time; returns to the pool if it is still usable.
  using Lease = std::unique_ptr<Sandbox, std::function<void(Sandbox*)>>;
  /// @throws IoError if a sandbox cannot be started.
  Lease acquire(SandboxUse use);

 private:
  struct Start;
  void start_sandboxes();
  void release(SandboxUse use, std::unique_ptr<Sandbox> sandbox);

  const IsolationConfig config_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Sandbox>> idle_[2];
  std::vector<Start*> waiting_;
  bool is_stopping_ = false;
  // Starts every sandbox: a sandbox dies with the thread that started it.
  std::thread starter_;
};

}  // namespace moerl::reward
