#include "rollout/weights/weights_service.h"

#include "common/check.h"
#include "common/error.h"
#include "common/rpc/status.h"
#include "rollout/weights/weights_staging.h"

namespace moerl {
namespace {

void check_header(const v1::WeightsHeader& header, const Transformer& model) {
  const std::string family = Engine::numeric_family(model);
  if (header.numeric_family() != family)
    throw FailedPrecondition(
        concat("numeric_family is ", header.numeric_family(), ", the worker's is ", family));
  const std::string own = model.config().to_json(model.dtype());
  const std::string theirs = ModelConfig::from_json("model_config_json", header.model_config_json())
                                 .to_json(model.dtype());
  if (theirs != own)
    throw FailedPrecondition(
        concat("model_config_json describes another model than the worker's:\n", theirs,
               "\nthe worker's:\n", own));
  check(header.policy_version() >= 0, "policy_version is ", header.policy_version(),
        ", expected >= 0");
  const auto num_tensors = static_cast<int64_t>(model.parameters().size());
  check(header.num_tensors() == num_tensors, "num_tensors is ", header.num_tensors(),
        ", the model has ", num_tensors);
}

}  // namespace

WeightsService::WeightsService(Transformer& model, Engine& engine, ExecContext& ctx)
    : model_(model), engine_(engine), ctx_(ctx) {}

grpc::Status WeightsService::UpdateWeights(grpc::ServerContext* context,
                                           grpc::ServerReader<v1::UpdateWeightsRequest>* reader,
                                           v1::UpdateWeightsResponse* response) try {
  std::unique_lock lock(one_update_, std::try_to_lock);
  if (!lock) throw ResourceExhausted("another weight update is under way");

  v1::UpdateWeightsRequest message;
  check(reader->Read(&message) && message.has_header(), "the first message is no header");
  const v1::WeightsHeader header = message.header();
  check_header(header, model_);
  WeightsStaging staging(std::as_const(model_));
  while (reader->Read(&message)) {
    check(message.has_chunk(), "a later message is no chunk");
    const v1::TensorChunk& chunk = message.chunk();
    staging.add({.name = chunk.name(),
                 .shape = Shape({chunk.shape().begin(), chunk.shape().end()}),
                 .offset = chunk.offset(),
                 .data = chunk.data(),
                 .hash = chunk.hash()});
  }
  if (context->IsCancelled()) throw Cancelled("the update was cancelled");
  staging.check_complete(header.weights_hash());

  engine_.with_exclusive_weights([&] {
    if (context->IsCancelled()) throw Cancelled("the update was cancelled");
    staging.load_into(ctx_, model_);
    engine_.set_policy_version(header.policy_version(), header.weights_hash());
  });
  response->set_policy_version(header.policy_version());
  response->set_weights_hash(header.weights_hash());
  return grpc::Status::OK;
} catch (...) {
  return rpc::to_grpc_status(std::current_exception());
}

}  // namespace moerl
