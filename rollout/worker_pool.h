#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/config.h"
#include "rollout/completion.h"
#include "rollout/rollout_client.h"

namespace moerl {

struct WorkerPoolConfig {
  double call_timeout_s = 1800;  ///< of one Generate call; and the longest wait for any progress
  double status_timeout_s = 10;  ///< of one GetStatus call
  int64_t max_inflight_sequences = 256;  ///< that one worker is given at once (at least a prompt)
  int64_t prompts_per_call = 4;          ///< work is handed out in portions of so many prompts
  double min_backoff_s = 0.02, max_backoff_s = 2;  ///< of a worker whose queue is full
};

void visit_fields(FieldVisitor& v, WorkerPoolConfig& c);

/// The rollout workers of one run. As completions are pure functions of their request, the result
/// of generate() does not depend on how many workers there are, which of them did what, or whether
/// some failed on the way.
/// Thread safety: one caller at a time.
class WorkerPool {
 public:
  struct Worker {
    std::shared_ptr<grpc::Channel> channel;
    std::string name;  ///< such as "rollout worker host:port"
  };

  /// Asks every worker for its status.
  /// @throws ConfigError if two workers are of different numeric families (it names both); RpcError
  ///   if one cannot be reached.
  explicit WorkerPool(const std::vector<Worker>& workers, const WorkerPoolConfig& config = {});
  /// Workers at "host:port" each.
  static WorkerPool connect(const std::vector<std::string>& addresses,
                            const WorkerPoolConfig& config = {});
  ~WorkerPool();
  WorkerPool(WorkerPool&&) noexcept;

  /// Of all workers.
  const std::string& numeric_family() const;
  int64_t num_workers() const;
  /// Workers that answered when they were asked last.
  int64_t num_alive() const;

  /// Samples `group_size` completions for every prompt; prompt_ids must differ. Work goes to the
  /// least loaded worker. A worker that fails is left out for the rest of the call (and asked again
  /// at the next), and what it owes goes to the others; one whose queue is full gets a pause.
  /// @param on_completion  if not null: called on this thread for each completion as it arrives, in
  ///   any order.
  /// @return all completions: prompts in the order given, sample indices ascending.
  /// @throws std::invalid_argument (bad request), FailedPrecondition (every worker holds another
  ///   version), RpcError (no worker is left, listing what befell each; or nothing moved for
  ///   call_timeout_s).
  std::vector<Completion> generate(
      const GenerateRequest& request,
      const std::function<void(const Completion&)>& on_completion = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moerl
