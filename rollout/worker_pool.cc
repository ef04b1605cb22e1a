#include "rollout/worker_pool.h"

#include <algorithm>
#include <future>

#include "common/check.h"
#include "common/error.h"
#include "common/rpc/server.h"
#include "rollout/pool_run.h"

namespace moerl {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

struct WorkerPool::Impl {
  /// Asks the workers that are not alive for their status, all at once.
  void probe(bool wait_for_ready);
  void check_families() const;

  WorkerPoolConfig config;
  std::vector<std::unique_ptr<PoolWorker>> workers;
};

void WorkerPool::Impl::probe(bool wait_for_ready) {
  std::vector<std::pair<PoolWorker*, std::future<WorkerStatus>>> answers;
  for (const auto& worker : workers) {
    if (worker->is_alive) continue;
    answers.emplace_back(
        worker.get(), std::async(std::launch::async, [this, &worker, wait_for_ready] {
          return worker->client.status(milliseconds(config.status_timeout_s), wait_for_ready);
        }));
  }
  for (auto& [worker, answer] : answers) {
    try {
      worker->numeric_family = answer.get().numeric_family;
      worker->is_alive = true;
      worker->error = nullptr;
    } catch (const std::exception&) {
      worker->error = std::current_exception();
    }
  }
  check_families();
}

void WorkerPool::Impl::check_families() const {
  const PoolWorker* first = nullptr;
  for (const auto& worker : workers) {
    if (!worker->is_alive) continue;
    if (!first) first = worker.get();
    if (worker->numeric_family != first->numeric_family)
      throw ConfigError(concat("rollout workers of different numeric families cannot be mixed: ",
                               first->client.name(), " is ", first->numeric_family, ", ",
                               worker->client.name(), " is ", worker->numeric_family));
  }
}

WorkerPool::WorkerPool(const std::vector<Worker>& workers, const WorkerPoolConfig& config)
    : impl_(std::make_unique<Impl>()) {
  check(!workers.empty(), "WorkerPool: no workers, expected at least one");
  impl_->config = config;
  for (const Worker& worker : workers)
    impl_->workers.push_back(std::make_unique<PoolWorker>(worker.channel, worker.name));
  impl_->probe(true);
  for (const auto& worker : impl_->workers)
    if (!worker->is_alive) std::rethrow_exception(worker->error);
}

WorkerPool WorkerPool::connect(const std::vector<std::string>& addresses,
                               const WorkerPoolConfig& config) {
  std::vector<Worker> workers;
  for (const std::string& address : addresses)
    workers.push_back({rpc::connect(address), "rollout worker " + address});
  return WorkerPool(workers, config);
}

WorkerPool::~WorkerPool() = default;
WorkerPool::WorkerPool(WorkerPool&&) noexcept = default;

const std::string& WorkerPool::numeric_family() const {
  const auto alive = std::find_if(impl_->workers.begin(), impl_->workers.end(),
                                  [](const auto& worker) { return worker->is_alive; });
  return (alive == impl_->workers.end() ? impl_->workers.front() : *alive)->numeric_family;
}

int64_t WorkerPool::num_workers() const { return static_cast<int64_t>(impl_->workers.size()); }

int64_t WorkerPool::num_alive() const {
  return std::count_if(impl_->workers.begin(), impl_->workers.end(),
                       [](const auto& worker) { return worker->is_alive; });
}

std::vector<Completion> WorkerPool::generate(
    const GenerateRequest& request, const std::function<void(const Completion&)>& on_completion) {
  impl_->probe(false);
  return PoolRun(impl_->config, impl_->workers, request, on_completion).run();
}

void visit_fields(FieldVisitor& v, WorkerPoolConfig& c) {
  v.field("call_timeout_s", c.call_timeout_s, kPositive);
  v.field("status_timeout_s", c.status_timeout_s, kPositive);
  v.field("max_inflight_sequences", c.max_inflight_sequences, kAtLeastOne);
  v.field("prompts_per_call", c.prompts_per_call, kAtLeastOne);
  v.field("min_backoff_s", c.min_backoff_s, kPositive);
  v.field("max_backoff_s", c.max_backoff_s, kPositive);
}

}  // namespace moerl
