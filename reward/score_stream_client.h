#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "moerl/v1/reward.grpc.pb.h"
#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// How a stream ended.
struct StreamEnd {
  /// The exception of rpc::throw_if_error; never null, an end is never asked for.
  std::exception_ptr error;
  /// True if the items that have no verdict may be sent again, here or elsewhere.
  bool is_retryable = false;
  /// True if the server was full (RESOURCE_EXHAUSTED).
  bool is_busy = false;
  /// The one item that the server refused, if it named one.
  std::optional<uint64_t> refused_id;
};

/// One ScoreStream call to one server. Its callbacks run on gRPC threads without a lock held.
class ScoreStreamClient {
 public:
  struct Events {
    std::function<void(Verdict verdict)> on_verdict;
    /// A verdict that is none, such as one with a score of NaN, in place of on_verdict.
    std::function<void(uint64_t id, std::string reason)> on_bad_verdict;
    /// The last event; called exactly once. The call holds no channel any more.
    std::function<void(StreamEnd end)> on_end;
  };

  /// Starts the call. It keeps itself alive until on_end.
  /// @param stub borrowed until on_end.  @param server for error texts.
  static std::shared_ptr<ScoreStreamClient> open(v1::RewardService::Stub& stub, std::string server,
                                                 Events events);
  virtual ~ScoreStreamClient() = default;

  /// Queues an item. @return false if the stream has ended: on_end was called or soon is.
  virtual bool send(const ScoreItem& item) = 0;
  /// Ends the call soon.
  virtual void cancel() = 0;
};

}  // namespace moerl::reward
