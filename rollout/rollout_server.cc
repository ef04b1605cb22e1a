#include "rollout/rollout_server.h"

#include "rollout/rollout_service.h"
#include "rollout/weights/weights_service.h"

namespace moerl {
namespace {

std::vector<grpc::Service*> choose(grpc::Service& rollout, grpc::Service& weights,
                                   bool accepts_weights) {
  std::vector<grpc::Service*> services = {&rollout};
  if (accepts_weights) services.push_back(&weights);
  return services;
}

}  // namespace

struct RolloutServer::Impl {
  Impl(Transformer& model, const RolloutServerConfig& config, ExecContext& ctx)
      : engine(model, config.engine, ctx, config.policy_version),
        rollout_service(engine),
        weights_service(model, engine, ctx),
        server(choose(rollout_service, weights_service, config.accepts_weights), config.address) {
    if (model.experts().size() == 1) engine.start();
  }

  /// Calls of an engine that nobody steps any more must end too.
  ~Impl() {
    if (engine.model().experts().size() > 1) engine.stop();
  }

  // The server goes first: its calls end only while the engine still steps.
  Engine engine;
  RolloutService rollout_service;
  WeightsService weights_service;
  rpc::Server server;
};

RolloutServer::RolloutServer(Transformer& model, const RolloutServerConfig& config,
                             ExecContext& ctx)
    : impl_(std::make_unique<Impl>(model, config, ctx)) {}

RolloutServer::~RolloutServer() = default;

Engine& RolloutServer::engine() { return impl_->engine; }
std::shared_ptr<grpc::Channel> RolloutServer::in_process_channel() {
  return impl_->server.in_process_channel();
}
int RolloutServer::port() const { return impl_->server.port(); }
void RolloutServer::wait() { impl_->server.wait(); }
void RolloutServer::shutdown(int grace_ms) { impl_->server.shutdown(grace_ms); }

}  // namespace moerl
