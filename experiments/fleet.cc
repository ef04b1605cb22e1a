#include "experiments/fleet.h"

#include <chrono>

#include "common/check.h"
#include "common/rpc/server.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"
#include "reward/verifier_registry.h"
#include "rollout/rollout_server.h"
#include "rollout/weights/weights_client.h"

namespace moerl {
namespace {

int milliseconds(double seconds) { return static_cast<int>(seconds * 1000); }

/// The reward service of a run that names no address.
struct EmbeddedReward {
  explicit EmbeddedReward(const RewardSettings& settings)
      : scorer(reward::make_verifier_registry(),
               {.num_threads = static_cast<int>(settings.num_workers),
                .deadline_ms = milliseconds(settings.timeout_s)}),
        service(scorer),
        server({&service}, "") {}
  reward::Scorer scorer;
  reward::RewardServiceImpl service;
  rpc::Server server;
};

}  // namespace

struct Fleet::Embedded {
  std::vector<std::unique_ptr<RolloutServer>> workers;
  std::unique_ptr<EmbeddedReward> reward;
};

EngineConfig engine_config(const RolloutSettings& settings) {
  EngineConfig config;
  config.kv_cache_bytes = static_cast<int64_t>(settings.kv_cache_gb * (1 << 30));
  config.max_num_seqs = settings.max_num_seqs;
  config.max_batched_tokens = std::max(settings.max_batched_tokens, settings.max_num_seqs);
  return config;
}

Fleet::Fleet(const Recipe& recipe, ExecContext& ctx, Transformer& policy)
    : embedded_(std::make_unique<Embedded>()),
      remote_addresses_(recipe.rollout.addresses),
      timeout_s_(recipe.rollout.timeout_s) {
  WorkerPoolConfig pool_config;
  pool_config.call_timeout_s = timeout_s_;
  pool_config.max_inflight_sequences = recipe.rollout.max_num_seqs;
  std::vector<WorkerPool::Worker> workers;
  for (const std::string& address : remote_addresses_)
    workers.push_back({rpc::connect(address), "rollout worker " + address});
  if (workers.empty()) {
    for (int64_t i = 0; i < recipe.rollout.num_workers; ++i) {
      embedded_->workers.push_back(std::make_unique<RolloutServer>(
          policy, RolloutServerConfig{.engine = engine_config(recipe.rollout), .address = {}},
          ctx));
      workers.push_back(
          {embedded_->workers.back()->in_process_channel(), concat("embedded rollout worker ", i)});
    }
  }
  workers_ = std::make_unique<WorkerPool>(workers, pool_config);
  const std::string family = Engine::numeric_family(policy);
  if (workers_->numeric_family() != family)
    throw ConfigError(concat("the rollout workers compute as ", workers_->numeric_family(),
                             ", the trainer as ", family,
                             "; in exact mode they must be of one family"));

  std::vector<reward::RewardServer> rewards;
  for (const std::string& address : recipe.reward.addresses)
    rewards.push_back({address, rpc::connect(address)});
  if (rewards.empty()) {
    embedded_->reward = std::make_unique<EmbeddedReward>(recipe.reward);
    rewards.push_back({"embedded reward service", embedded_->reward->server.in_process_channel()});
  }
  rewards_ = std::make_unique<reward::RewardClient>(std::move(rewards));
}

Fleet::~Fleet() {
  rewards_.reset();
  workers_.reset();
}

void Fleet::publish(const Transformer& policy, int64_t policy_version) {
  if (policy_version == published_version_) return;
  for (const auto& worker : embedded_->workers) worker->engine().set_policy_version(policy_version);
  std::vector<WeightsClient> clients;
  for (const std::string& address : remote_addresses_)
    clients.emplace_back(rpc::connect(address), "rollout worker " + address);
  update_all(clients, policy, policy_version, std::chrono::milliseconds(milliseconds(timeout_s_)));
  published_version_ = policy_version;
}

}  // namespace moerl
