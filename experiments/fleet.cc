#include "experiments/fleet.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "common/check.h"
#include "common/error.h"
#include "common/rpc/server.h"
#include "policy/weights_io.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"
#include "reward/verifier_registry.h"
#include "rollout/rollout_server.h"
#include "rollout/weights/weights_client.h"

namespace moerl {
namespace {

int milliseconds(double seconds) { return static_cast<int>(seconds * 1000); }

rpc::KeepAlive keep_alive(const RolloutSettings& settings) {
  return {.period_ms = milliseconds(settings.keepalive_s),
          .timeout_ms = milliseconds(settings.keepalive_s / 2)};
}

/// The reward service of a run that names no address.
struct EmbeddedReward {
  EmbeddedReward(const RewardSettings& settings,
                 std::shared_ptr<const reward::VerifierRegistry> verifiers)
      : scorer(std::move(verifiers), {.num_threads = static_cast<int>(settings.num_workers),
                                      .deadline_ms = milliseconds(settings.timeout_s)}),
        service(scorer),
        server({&service}, "") {}
  reward::Scorer scorer;
  reward::RewardServiceImpl service;
  rpc::Server server;
};

constexpr std::chrono::seconds kStatusTimeout{10};

/// What a remote worker says of itself.
struct Answer {
  WorkerStatus status;
  std::exception_ptr error;  ///< null: it has answered
};

/// Asks all workers at once. @param patient  wait for those that cannot be connected to at once.
template <typename Remotes>
std::vector<Answer> ask_all(const Remotes& remotes, bool patient) {
  std::vector<std::future<WorkerStatus>> futures;
  for (const auto& remote : remotes) {
    // gRPC's own pauses between connects grow to minutes.
    grpc::experimental::ChannelResetConnectionBackoff(remote->channel.get());
    futures.push_back(std::async(std::launch::async, [&remote, patient] {
      return remote->rollout.status(kStatusTimeout, patient);
    }));
  }
  std::vector<Answer> answers(futures.size());
  for (size_t i = 0; i < futures.size(); ++i) {
    try {
      answers[i].status = futures[i].get();
    } catch (...) {
      answers[i].error = std::current_exception();
    }
  }
  return answers;
}

/// The text of an error that means that the worker is lost or busy; other errors are thrown on.
std::string reason_if_lost(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const RpcError& e) {
    return e.what();
  } catch (const ResourceExhausted& e) {
    return e.what();
  } catch (const Cancelled& e) {
    return e.what();
  }
}

}  // namespace

struct Fleet::Embedded {
  std::vector<std::unique_ptr<RolloutServer>> workers;
  std::unique_ptr<EmbeddedReward> reward;
};

/// A worker in another process.
struct Fleet::Remote {
  Remote(const std::string& address, const rpc::KeepAlive& keep_alive)
      : name("rollout worker " + address),
        channel(rpc::connect(address, keep_alive)),
        rollout(channel, name),
        weights(channel, name) {}
  std::string name;
  std::shared_ptr<grpc::Channel> channel;
  RolloutClient rollout;
  WeightsClient weights;
};

EngineConfig engine_config(const RolloutSettings& settings) {
  EngineConfig config;
  config.kv_cache_bytes = static_cast<int64_t>(settings.kv_cache_gb * (1 << 30));
  config.max_num_seqs = settings.max_num_seqs;
  config.max_batched_tokens = std::max(settings.max_batched_tokens, settings.max_num_seqs);
  config.enforce_eager = settings.enforce_eager;
  return config;
}

Fleet::Fleet(const Recipe& recipe, ExecContext& ctx, Transformer& policy,
             std::shared_ptr<const reward::VerifierRegistry> verifiers,
             const std::vector<std::string>& peers)
    : embedded_(std::make_unique<Embedded>()), timeout_s_(recipe.rollout.timeout_s) {
  WorkerPoolConfig pool_config;
  pool_config.call_timeout_s = timeout_s_;
  pool_config.max_inflight_sequences = recipe.rollout.max_num_seqs;
  std::vector<WorkerPool::Worker> workers;
  for (const std::string& address : recipe.rollout.addresses) {
    const Remote& remote =
        *remotes_.emplace_back(std::make_unique<Remote>(address, keep_alive(recipe.rollout)));
    workers.push_back({remote.channel, remote.name});
  }
  if (!workers.empty()) policy.need_masters("rollout workers in other processes");
  if (workers.empty()) {
    for (int64_t i = 0; i < recipe.rollout.num_workers; ++i) {
      embedded_->workers.push_back(std::make_unique<RolloutServer>(
          policy, RolloutServerConfig{.engine = engine_config(recipe.rollout), .address = {}},
          ctx));
      workers.push_back(
          {embedded_->workers.back()->in_process_channel(), concat("embedded rollout worker ", i)});
    }
  }
  for (size_t i = 0; i < peers.size(); ++i)
    workers.push_back({rpc::connect(peers[i], keep_alive(recipe.rollout)),
                       concat("rank ", i + 1, " at ", peers[i])});
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
    embedded_->reward = std::make_unique<EmbeddedReward>(recipe.reward, std::move(verifiers));
    rewards.push_back({"embedded reward service", embedded_->reward->server.in_process_channel()});
  }
  rewards_ = std::make_unique<reward::RewardClient>(
      std::move(rewards),
      reward::RewardClientConfig{.deadline_ms = milliseconds(recipe.reward.call_timeout_s)});
}

Fleet::~Fleet() {
  rewards_.reset();
  workers_.reset();
}

Engine* Fleet::engine() {
  return embedded_->workers.empty() ? nullptr : &embedded_->workers.front()->engine();
}

void Fleet::publish(const Transformer& policy, int64_t policy_version) {
  if (policy_version != published_version_)
    for (const auto& worker : embedded_->workers)
      worker->engine().set_policy_version(policy_version);
  if (!remotes_.empty()) send_weights(policy, policy_version);
  published_version_ = policy_version;
}

void Fleet::send_weights(const Transformer& policy, int64_t policy_version) {
  if (policy_version != published_version_) published_hash_ = weights_hash(policy);
  std::vector<Answer> answers;
  for (bool patient : {false, true}) {
    answers = ask_all(remotes_, patient);
    if (std::any_of(answers.begin(), answers.end(), [](const Answer& a) { return !a.error; }))
      break;
  }
  std::vector<size_t> outdated;
  std::vector<const WeightsClient*> clients;
  for (size_t i = 0; i < answers.size(); ++i) {
    const WorkerStatus& status = answers[i].status;
    if (answers[i].error ||
        (status.policy_version == policy_version && status.weights_hash == published_hash_))
      continue;
    outdated.push_back(i);
    clients.push_back(&remotes_[i]->weights);
  }
  const std::vector<std::exception_ptr> errors = update_all(
      clients, policy, policy_version, std::chrono::milliseconds(milliseconds(timeout_s_)));
  for (size_t i = 0; i < errors.size(); ++i) answers[outdated[i]].error = errors[i];

  std::string lost;
  bool any_holds = false;
  for (const Answer& answer : answers) {
    any_holds = any_holds || !answer.error;
    if (answer.error) lost += "\n  " + reason_if_lost(answer.error);
  }
  if (!any_holds)
    throw RpcError(grpc::StatusCode::UNAVAILABLE,
                   concat("no rollout worker can be given policy version ", policy_version, lost));
}

}  // namespace moerl
