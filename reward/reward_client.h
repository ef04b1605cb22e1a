#pragma once
#include <grpcpp/channel.h>

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

struct RewardClientConfig {
  /// After how long a server that says nothing is given up on, in milliseconds; >= 1. While it
  /// sends verdicts on other items, or says that it is full, an item waits ten times as long.
  int deadline_ms = 60'000;
  /// Further attempts after the first; >= 0.
  int retries = 8;
  /// Pause before a server that failed is tried again, in milliseconds; doubles with each failure
  /// in a row up to max_backoff_ms. >= 1.
  int backoff_ms = 50;
  int max_backoff_ms = 2000;
};

/// A reward server and the name that errors call it by.
struct RewardServer {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
};

/// What a server offers.
struct VerifierDescription {
  std::string name, description;
};

/// Sends samples to reward servers, one stream each, to the one with the fewest in flight. An item
/// whose server is lost, silent, full or answers nonsense is sent again, preferably to another
/// server: a verdict is a pure function of its item. An item that is answered with nonsense three
/// times ends as kInternalError. Every item ends: at the latest ten deadlines and (retries + 1)
/// attempts with their pauses after it was submitted.
/// Thread safety: all methods. The client must not be destroyed from a callback.
class RewardClient {
 public:
  /// One item's end: a verdict with the id of the item, or an error: std::invalid_argument if the
  /// server refused the item, Cancelled if the client was destroyed, ResourceExhausted or RpcError,
  /// naming the address and the last failure, if the attempts are used up.
  using Callback = std::function<void(std::exception_ptr error, Verdict verdict)>;

  /// @throws std::invalid_argument if there is no server or a field is out of range.
  RewardClient(std::vector<RewardServer> servers, const RewardClientConfig& config = {});
  /// The same with a channel to each "host:port".
  RewardClient(const std::vector<std::string>& addresses, const RewardClientConfig& config = {});
  /// Ends open items with Cancelled and returns when no callback runs any more.
  ~RewardClient();
  RewardClient(const RewardClient&) = delete;
  RewardClient& operator=(const RewardClient&) = delete;

  /// Sends one item; never blocks. `callback` is called once, on another thread.
  void submit(ScoreItem item, Callback callback);

  /// Scores all items and waits; verdicts in the order of the items.
  /// @throws the first item's error, as in Callback.
  std::vector<Verdict> score_batch(std::vector<ScoreItem> items);

  /// The verifiers of the first server that answers within deadline_ms.
  /// @throws RpcError of the last server.
  std::vector<VerifierDescription> list_verifiers();

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace moerl::reward
