#pragma once
#include <grpcpp/channel.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "policy/transformer.h"

namespace moerl {

/// Sends policy weights to rollout workers; contract in weights.proto.
class WeightsClient {
 public:
  /// @param name  how errors call the worker, such as "rollout worker 10.0.0.7:5100".
  WeightsClient(std::shared_ptr<grpc::Channel> channel, std::string name);

  /// Sends every master of the model and waits until the worker has taken them over. Nobody may
  /// change the weights meanwhile.
  /// @return the hash of the weights.
  /// @throws the types of rpc::throw_if_error; std::invalid_argument if the model has no masters.
  uint64_t update(const Transformer& model, int64_t policy_version,
                  std::chrono::milliseconds timeout) const;

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::string name_;
};

/// Brings several workers to the same weights, all at once.
/// @return the error of each worker, in the order given; null: it holds the weights.
std::vector<std::exception_ptr> update_all(const std::vector<const WeightsClient*>& workers,
                                           const Transformer& model, int64_t policy_version,
                                           std::chrono::milliseconds timeout);

}  // namespace moerl
