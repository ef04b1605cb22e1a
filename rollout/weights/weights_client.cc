#include "rollout/weights/weights_client.h"

#include <future>

#include "common/check.h"
#include "common/rpc/status.h"
#include "moerl/v1/weights.grpc.pb.h"
#include "rollout/weights/weights_convert.h"

namespace moerl {
namespace {

/// False: the worker has ended the call and its status says why.
bool send_all(grpc::ClientWriter<v1::UpdateWeightsRequest>& writer, const Transformer& model,
              int64_t policy_version) {
  const std::vector<uint64_t> hashes = weights_hashes(model);
  if (!writer.Write(weights_header(model, policy_version, hashes))) return false;
  const std::vector<const Parameter*> parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i)
    for (int64_t offset = 0; offset < parameters[i]->value.bytes(); offset += kWeightsChunkBytes)
      if (!writer.Write(weights_chunk(*parameters[i], offset, hashes[i]))) return false;
  return writer.WritesDone();
}

}  // namespace

WeightsClient::WeightsClient(std::shared_ptr<grpc::Channel> channel, std::string name)
    : channel_(std::move(channel)), name_(std::move(name)) {}

uint64_t WeightsClient::update(const Transformer& model, int64_t policy_version,
                               std::chrono::milliseconds timeout) const {
  model.need_masters("sending weights");
  const auto stub = v1::WeightsService::NewStub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  v1::UpdateWeightsResponse response;
  const auto writer = stub->UpdateWeights(&context, &response);
  send_all(*writer, model, policy_version);
  rpc::throw_if_error(writer->Finish(), name_ + ": UpdateWeights");
  if (response.policy_version() != policy_version)
    throw RpcError(grpc::StatusCode::INTERNAL,
                   concat(name_, ": UpdateWeights answers policy version ",
                          response.policy_version(), ", expected ", policy_version));
  return response.weights_hash();
}

std::vector<std::exception_ptr> update_all(const std::vector<const WeightsClient*>& workers,
                                           const Transformer& model, int64_t policy_version,
                                           std::chrono::milliseconds timeout) {
  std::vector<std::future<void>> updates;
  for (const WeightsClient* worker : workers)
    updates.push_back(std::async(std::launch::async, [worker, &model, policy_version, timeout] {
      worker->update(model, policy_version, timeout);
    }));
  std::vector<std::exception_ptr> errors(workers.size());
  for (size_t i = 0; i < updates.size(); ++i) {
    try {
      updates[i].get();
    } catch (...) {
      errors[i] = std::current_exception();
    }
  }
  return errors;
}

}  // namespace moerl
