#pragma once
#include <memory>
#include <string>
#include <vector>

#include "experiments/recipe.h"
#include "policy/parallel/communicator.h"
#include "policy/transformer.h"
#include "rollout/rollout_server.h"

namespace moerl {

/// The other ranks of a parallel run as rollout workers of rank 0: each serves an engine that
/// shares its trainer's weights, so none are sent. Rank 0 hands out prompts as to any other
/// workers. Made and told of new versions by all ranks together.
class SamplingPeers {
 public:
  /// Nobody serves where the recipe names rollout workers of its own. Ranks of one machine listen
  /// on its loopback interface, those of several machines on all interfaces under their host names.
  SamplingPeers(Communicator& comm, const Recipe& recipe, ExecContext& ctx, Transformer& policy);

  /// "host:port" of ranks 1, 2, …; on rank 0.
  const std::vector<std::string>& addresses() const { return addresses_; }
  /// Of this rank; null on rank 0, and where nobody serves.
  Engine* engine() { return server_ ? &server_->engine() : nullptr; }
  /// The weights have changed. Returns when every rank's have.
  void publish(int64_t policy_version);

 private:
  Communicator& comm_;
  std::unique_ptr<RolloutServer> server_;
  int64_t published_version_ = 0;
  std::vector<std::string> addresses_;
};

}  // namespace moerl
