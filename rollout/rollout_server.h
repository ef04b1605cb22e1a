#pragma once
#include <memory>
#include <string>

#include "common/rpc/server.h"
#include "rollout/engine.h"

namespace moerl {

struct RolloutServerConfig {
  EngineConfig engine;
  /// "host:port" (port 0 picks a free one), or "" for in-process channels only.
  std::string address;
  /// Serve WeightsService: the weights are this worker's own and come over the wire. Otherwise they
  /// belong to whoever trains them in this process.
  bool accepts_weights = false;
  /// Of the weights that the model has now; kNoWeights: requests are refused until weights come.
  int64_t policy_version = 0;
};

/// A rollout worker: an engine, its thread, and the gRPC services around it, health included. The
/// embedded run and `moerl serve rollout` are both this. Where the model's experts are spread over
/// ranks, there is no thread: the owner steps the engine, with those of the other ranks.
class RolloutServer {
 public:
  /// Starts serving. Model and context are borrowed.
  /// @throws RpcError if the address cannot be bound.
  RolloutServer(Transformer& model, const RolloutServerConfig& config, ExecContext& ctx);
  /// As shutdown(0).
  ~RolloutServer();

  Engine& engine();
  /// A channel into this worker that leaves out the network.
  std::shared_ptr<grpc::Channel> in_process_channel();
  /// The port that was bound; 0 without an address.
  int port() const;
  /// Blocks until shutdown().
  void wait();
  /// Refuses new calls, gives running ones `grace_ms` milliseconds, then cancels them.
  void shutdown(int grace_ms = 1000);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moerl
