#pragma once
#include <memory>
#include <vector>

#include "experiments/recipe.h"
#include "policy/transformer.h"
#include "reward/reward_client.h"
#include "rollout/engine.h"
#include "rollout/worker_pool.h"

namespace moerl {

EngineConfig engine_config(const RolloutSettings& settings);

/// The rollout workers and reward servers of a run: embedded ones, which share the trainer's
/// process and weights, or remote ones at the addresses of the recipe. Both are spoken to over
/// gRPC.
class Fleet {
 public:
  Fleet(const Recipe& recipe, ExecContext& ctx, Transformer& policy);
  ~Fleet();

  WorkerPool& workers() { return *workers_; }
  reward::RewardClient& rewards() { return *rewards_; }

  /// Makes every worker hold the policy's present weights as `policy_version`: embedded ones share
  /// them already, remote ones are sent them, with hashes.
  void publish(const Transformer& policy, int64_t policy_version);

 private:
  struct Embedded;
  std::unique_ptr<Embedded> embedded_;
  std::vector<std::string> remote_addresses_;
  double timeout_s_;
  int64_t published_version_ = -1;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<reward::RewardClient> rewards_;
};

}  // namespace moerl
