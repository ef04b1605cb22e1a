#include "reward/sandbox/sandbox_pool.h"

#include <exception>

namespace moerl::reward {

struct SandboxPool::Start {
  std::unique_ptr<Sandbox> sandbox;
  std::exception_ptr error;
  bool is_done = false;
};

SandboxPool::SandboxPool(IsolationConfig config) : config_(std::move(config)) {
  remove_stale_cgroups(config_.cgroups);
  starter_ = std::thread([this] { start_sandboxes(); });
}

SandboxPool::~SandboxPool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
  }
  starter_.join();
}

void SandboxPool::start_sandboxes() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Start* start = waiting_.back();
    waiting_.pop_back();
    lock.unlock();
    try {
      start->sandbox = std::make_unique<Sandbox>(config_);
    } catch (...) {
      start->error = std::current_exception();
    }
    lock.lock();
    start->is_done = true;
    changed_.notify_all();
  }
}

SandboxPool::Lease SandboxPool::acquire(SandboxUse use) {
  auto lease = [this, use](std::unique_ptr<Sandbox> sandbox) {
    return Lease(sandbox.release(),
                 [this, use](Sandbox* used) { release(use, std::unique_ptr<Sandbox>(used)); });
  };
  std::unique_lock lock(mutex_);
  auto& idle = idle_[static_cast<size_t>(use)];
  while (!idle.empty()) {
    std::unique_ptr<Sandbox> sandbox = std::move(idle.back());
    idle.pop_back();
    if (sandbox->is_usable()) return lease(std::move(sandbox));
  }
  Start start;
  waiting_.push_back(&start);
  changed_.notify_all();
  changed_.wait(lock, [&] { return start.is_done; });
  if (start.error) std::rethrow_exception(start.error);
  return lease(std::move(start.sandbox));
}

void SandboxPool::release(SandboxUse use, std::unique_ptr<Sandbox> sandbox) {
  if (!sandbox->is_usable()) return;
  const std::lock_guard lock(mutex_);
  idle_[static_cast<size_t>(use)].push_back(std::move(sandbox));
}

}  // namespace moerl::reward
