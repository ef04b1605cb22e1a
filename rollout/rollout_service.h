#pragma once
#include "moerl/v1/rollout.grpc.pb.h"
#include "rollout/engine.h"

namespace moerl {

/// gRPC face of an Engine; contract in rollout.proto. Keeps no state and does no work: it converts,
/// enqueues, streams, and maps errors. Handlers run on gRPC threads and never block.
class RolloutService final : public v1::RolloutService::CallbackService {
 public:
  /// @param engine  borrowed; must step until the server that holds this service has shut down.
  explicit RolloutService(Engine& engine);

  grpc::ServerWriteReactor<v1::Completion>* Generate(grpc::CallbackServerContext* context,
                                                     const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;

 private:
  Engine& engine_;
  const std::string numeric_family_;
};

}  // namespace moerl
