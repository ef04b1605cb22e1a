#pragma once
#include <mutex>

#include "moerl/v1/weights.grpc.pb.h"
#include "rollout/engine.h"

namespace moerl {

/// Receives weights for an Engine's model; contract in weights.proto. An update is staged beside
/// the weights in use (so fp32 weights are needed once more while it lasts) and taken over when it
/// is complete and proven.
class WeightsService final : public v1::WeightsService::Service {
 public:
  /// All borrowed. @param model  the one that `engine` samples from.
  WeightsService(Transformer& model, Engine& engine, ExecContext& ctx);

  /// Answers RESOURCE_EXHAUSTED while another update is under way.
  grpc::Status UpdateWeights(grpc::ServerContext* context,
                             grpc::ServerReader<v1::UpdateWeightsRequest>* reader,
                             v1::UpdateWeightsResponse* response) override;

 private:
  Transformer& model_;
  Engine& engine_;
  ExecContext& ctx_;
  std::mutex one_update_;
};

}  // namespace moerl
