#pragma once
#include "moerl/v1/reward.grpc.pb.h"
#include "reward/scorer.h"

namespace moerl::reward {

struct RewardServiceConfig {
  /// Samples of one stream that may be in work; the stream is not read further until one ends, so
  /// that a fast sender waits instead of filling the queue. >= 1.
  int max_stream_items = 1024;
};

/// gRPC face of a Scorer; contract in reward.proto. Keeps no state and does no work: it converts,
/// queues and maps errors. Handlers run on gRPC threads and never block.
class RewardServiceImpl final : public v1::RewardService::CallbackService {
 public:
  /// @param scorer borrowed; must outlive the server that this is registered with.
  explicit RewardServiceImpl(Scorer& scorer, const RewardServiceConfig& config = {});

  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;
  grpc::ServerBidiReactor<v1::ScoreItem, v1::Verdict>* ScoreStream(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ListVerifiers(grpc::CallbackServerContext* context,
                                          const v1::ListVerifiersRequest* request,
                                          v1::ListVerifiersResponse* response) override;

 private:
  Scorer& scorer_;
  RewardServiceConfig config_;
};

}  // namespace moerl::reward
