#include "experiments/sampling_peers.h"

#include <unistd.h>

#include <algorithm>

#include "common/check.h"
#include "experiments/fleet.h"
#include "policy/parallel/collectives.h"

namespace moerl {
namespace {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

SamplingPeers::SamplingPeers(Communicator& comm, const Recipe& recipe, ExecContext& ctx,
                             Transformer& policy)
    : comm_(comm) {
  if (comm.size() == 1 || !recipe.rollout.addresses.empty()) return;
  const std::string host = host_name();
  const std::vector<std::string> hosts = all_gather(comm, host);
  const bool one_machine = std::count(hosts.begin(), hosts.end(), host) == comm.size();
  std::string address;
  if (comm.rank() > 0) {
    server_ = std::make_unique<RolloutServer>(
        policy,
        RolloutServerConfig{.engine = engine_config(recipe.rollout),
                            .address = one_machine ? "127.0.0.1:0" : "0.0.0.0:0"},
        ctx);
    address = concat(one_machine ? "127.0.0.1" : host, ":", server_->port());
  }
  addresses_ = all_gather(comm, address);
  addresses_.erase(addresses_.begin());
}

void SamplingPeers::publish(int64_t policy_version) {
  if (server_ && policy_version != published_version_)
    server_->engine().set_policy_version(policy_version);
  published_version_ = policy_version;
  barrier(comm_);
}

}  // namespace moerl
