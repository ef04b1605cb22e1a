#pragma once
#include <grpcpp/channel.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "rollout/completion.h"

namespace moerl {

/// What a worker answers to GetStatus.
struct WorkerStatus {
  int64_t policy_version = 0;
  std::string numeric_family;
  uint64_t weights_hash = 0;
  int64_t queued_sequences = 0, running_sequences = 0;
  int64_t kv_blocks_total = 0, kv_blocks_free = 0;
};

/// A Generate call under way. Destroying the handle, which must not happen in a callback, cancels
/// the call and waits for its end.
class GenerateCall {
 public:
  virtual ~GenerateCall() = default;
  /// The call ends soon with Cancelled, unless it has ended already.
  virtual void cancel() = 0;
};

/// One rollout worker, seen from the learner. Every call has a deadline; errors name the worker and
/// have the types of rpc::throw_if_error.
/// Thread safety: any thread may call.
class RolloutClient {
 public:
  /// @param name  how errors call the worker, such as "rollout worker 10.0.0.7:5100".
  RolloutClient(std::shared_ptr<grpc::Channel> channel, std::string name);
  ~RolloutClient();

  const std::string& name() const { return name_; }

  /// Starts a call. Both callbacks run on gRPC threads, one at a time, and must not block.
  /// @param on_done  once, last, before the handle's destructor returns; null: all arrived.
  std::unique_ptr<GenerateCall> generate_async(
      const GenerateRequest& request, std::chrono::milliseconds timeout,
      std::function<void(Completion)> on_completion,
      std::function<void(std::exception_ptr)> on_done) const;
  /// The call from start to end; `on_completion` runs on a gRPC thread.
  void generate(const GenerateRequest& request, std::chrono::milliseconds timeout,
                const std::function<void(Completion)>& on_completion) const;

  /// @param wait_for_ready  keep trying to connect until the timeout.
  WorkerStatus status(std::chrono::milliseconds timeout, bool wait_for_ready = false) const;

 private:
  struct Stub;
  std::unique_ptr<Stub> stub_;
  std::string name_;
};

}  // namespace moerl
