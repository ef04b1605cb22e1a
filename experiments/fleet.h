#pragma once
#include <memory>
#include <vector>

#include "experiments/recipe.h"
#include "policy/transformer.h"
#include "reward/reward_client.h"
#include "reward/verifier_registry.h"
#include "rollout/engine.h"
#include "rollout/worker_pool.h"

namespace moerl {

EngineConfig engine_config(const RolloutSettings& settings);

/// The rollout workers and reward servers of a run: embedded ones, which share the trainer's
/// process and weights (and those of the other ranks of a parallel run, which share theirs), or
/// remote ones at the addresses of the recipe. Both are spoken to over gRPC.
class Fleet {
 public:
  /// @param policy  with masters if the recipe names addresses of rollout workers.
  /// @param verifiers  of the embedded reward service.
  /// @param peers  addresses of workers that have the policy's weights already: the other ranks.
  Fleet(const Recipe& recipe, ExecContext& ctx, Transformer& policy,
        std::shared_ptr<const reward::VerifierRegistry> verifiers,
        const std::vector<std::string>& peers = {});
  ~Fleet();

  WorkerPool& workers() { return *workers_; }
  /// Of the embedded worker; null if the workers are elsewhere.
  Engine* engine();
  reward::RewardClient& rewards() { return *rewards_; }

  /// Makes the workers hold the policy's present weights as `policy_version`: embedded ones share
  /// them already; a remote one is asked, and is sent them unless it has them, so that one that was
  /// started again gets them too. A worker that cannot be reached is left as it is.
  /// @throws RpcError naming every address if no worker can be reached within ten seconds; what
  /// a worker says that refuses the weights.
  void publish(const Transformer& policy, int64_t policy_version);

 private:
  struct Embedded;
  struct Remote;
  void send_weights(const Transformer& policy, int64_t policy_version);

  std::unique_ptr<Embedded> embedded_;
  std::vector<std::unique_ptr<Remote>> remotes_;
  double timeout_s_;
  int64_t published_version_ = -1;
  uint64_t published_hash_ = 0;  ///< of the weights that remote workers got
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<reward::RewardClient> rewards_;
};

}  // namespace moerl
