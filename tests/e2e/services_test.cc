// Rollout workers and reward servers in processes of their own, and their deaths.
#include <gtest/gtest.h>

#include "tests/testing/moerl_servers.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::address_list;
using testing::Arguments;
using testing::ChildProcess;
using testing::moerl_program;
using testing::MoerlServer;
using testing::RunResult;
using testing::same_run;
using testing::train;
using testing::train_arguments;

/// Enough steps for something to happen in between.
Arguments longer(Arguments overrides = {}) {
  overrides.insert(overrides.end(), {"task.countdown.demonstrations=120",
                                     "stages.1.total_training_steps=24", "trainer.save_freq=8"});
  return overrides;
}

class Services : public ::testing::Test {
 protected:
  /// Starts a longer run.
  std::unique_ptr<ChildProcess> start(const std::string& name, const Arguments& addresses) {
    return std::make_unique<ChildProcess>(moerl_program(),
                                          train_arguments(directory_ / name, longer(addresses)));
  }
  /// Waits for the end of a run and compares it with one of a single process.
  void expect_same_as_embedded(ChildProcess& trainer, const std::string& name) {
    ASSERT_TRUE(trainer.ends_within(120s));
    ASSERT_EQ(trainer.exit_code(), 0) << trainer.err();
    EXPECT_TRUE(
        same_run(train(directory_ / "embedded", longer()), testing::read_run(directory_ / name)));
  }

  testing::TempDirectory directory_;
};

TEST_F(Services, RemoteWorkersGiveTheBitsOfEmbeddedOnes) {
  const RunResult embedded = train(directory_ / "embedded");
  std::vector<MoerlServer> servers;
  std::vector<std::string> addresses;
  for (int n = 1; n <= 3; ++n) {
    servers.push_back(MoerlServer::rollout());
    addresses.push_back(servers.back().address());
    // The servers go on from one trainer to the next.
    EXPECT_TRUE(same_run(embedded, train(directory_ / std::to_string(n),
                                         {address_list("rollout.addresses", addresses)})))
        << n << " workers";
  }
}

TEST_F(Services, RemoteRewardServersGiveTheBitsOfTheEmbeddedOne) {
  const RunResult embedded = train(directory_ / "embedded");
  MoerlServer a = MoerlServer::reward(), b = MoerlServer::reward();
  EXPECT_TRUE(same_run(
      embedded, train(directory_ / "one", {address_list("reward.addresses", {a.address()})})));
  EXPECT_TRUE(same_run(
      embedded,
      train(directory_ / "two", {address_list("reward.addresses", {a.address(), b.address()})})));
}

TEST_F(Services, AnotherInstructionLevelOnAWorkerChangesNothing) {
  MoerlServer fast = MoerlServer::rollout();
  MoerlServer slow = MoerlServer::rollout({}, 0, {{"MOERL_ISA", "portable"}});
  EXPECT_TRUE(
      same_run(train(directory_ / "embedded"),
               train(directory_ / "remote",
                     {address_list("rollout.addresses", {fast.address(), slow.address()})})));
}

TEST_F(Services, AWorkerThatIsKilledIsLeftOut) {
  MoerlServer a = MoerlServer::rollout(), b = MoerlServer::rollout();
  const auto trainer =
      start("run", {address_list("rollout.addresses", {a.address(), b.address()})});
  ASSERT_TRUE(trainer->has_written("grpo 2/24"));
  a.kill();
  expect_same_as_embedded(*trainer, "run");
}

TEST_F(Services, AWorkerThatFreezesIsLeftOutAndGoesOnAfterwards) {
  MoerlServer a = MoerlServer::rollout(), b = MoerlServer::rollout();
  const auto trainer = start("run", {address_list("rollout.addresses", {a.address(), b.address()}),
                                     "rollout.keepalive_s=2"});
  ASSERT_TRUE(trainer->has_written("grpo 2/24"));
  a.process().send(SIGSTOP);
  ASSERT_TRUE(trainer->has_written("grpo 6/24")) << trainer->err();
  a.process().send(SIGCONT);
  b.kill();  // the one that was frozen must do the rest
  expect_same_as_embedded(*trainer, "run");
}

TEST_F(Services, AWorkerThatComesBackAtItsAddressIsGivenThePresentWeights) {
  MoerlServer a = MoerlServer::rollout(), b = MoerlServer::rollout();
  const auto trainer =
      start("run", {address_list("rollout.addresses", {a.address(), b.address()})});
  ASSERT_TRUE(trainer->has_written("grpo 2/24"));
  a.kill();
  ASSERT_TRUE(trainer->has_written("grpo 4/24"));
  MoerlServer again = MoerlServer::rollout({}, a.port());
  ASSERT_TRUE(trainer->has_written("grpo 8/24"));
  b.kill();  // the one that came back must do all of the rest
  expect_same_as_embedded(*trainer, "run");
}

TEST_F(Services, TheOnlyWorkerMayBeStartedAgain) {
  MoerlServer worker = MoerlServer::rollout();
  const auto trainer = start("run", {address_list("rollout.addresses", {worker.address()})});
  for (const char* moment : {"cold-start 3/10", "grpo 2/24", "grpo 5/24"}) {
    ASSERT_TRUE(trainer->has_written(moment)) << trainer->err();
    const int port = worker.port();
    worker.kill();
    worker = MoerlServer::rollout({}, port);
  }
  expect_same_as_embedded(*trainer, "run");
}

TEST_F(Services, ARewardServerMayBeKilledAndStartedAgain) {
  MoerlServer reward = MoerlServer::reward();
  const auto trainer = start("run", {address_list("reward.addresses", {reward.address()})});
  for (const char* moment : {"grpo 2/24", "grpo 6/24"}) {
    ASSERT_TRUE(trainer->has_written(moment)) << trainer->err();
    const int port = reward.port();
    reward.kill();
    reward = MoerlServer::reward(port);
  }
  expect_same_as_embedded(*trainer, "run");
}

TEST_F(Services, WhenAllAreDeadTheRunEndsAndNamesThem) {
  MoerlServer rollout = MoerlServer::rollout(), reward = MoerlServer::reward();
  const std::string gone = MoerlServer::reward().address();
  const auto without_rollout =
      start("rollout", {address_list("rollout.addresses", {rollout.address()})});
  const auto without_reward =
      start("reward", {address_list("reward.addresses", {reward.address()})});
  const auto never_there = start("never", {address_list("rollout.addresses", {gone})});
  ASSERT_TRUE(without_rollout->has_written("grpo 2/24"));
  rollout.kill();
  ASSERT_TRUE(without_reward->has_written("grpo 2/24"));
  reward.kill();
  for (const auto& [trainer, address] : {std::pair{&without_rollout, rollout.address()},
                                         {&without_reward, reward.address()},
                                         {&never_there, gone}}) {
    ASSERT_TRUE((*trainer)->ends_within(60s)) << address;
    EXPECT_EQ((*trainer)->exit_code(), 1) << (*trainer)->err();
    EXPECT_NE((*trainer)->err().find("moerl: error: "), std::string::npos) << (*trainer)->err();
    EXPECT_NE((*trainer)->err().find(address), std::string::npos) << (*trainer)->err();
  }
}

TEST_F(Services, ARunGoesOnAtOtherAddresses) {
  MoerlServer first = MoerlServer::rollout();
  const auto trainer = start("run", {address_list("rollout.addresses", {first.address()})});
  ASSERT_TRUE(trainer->has_written("grpo 9/24"));
  trainer->kill();
  first.kill();
  MoerlServer second = MoerlServer::rollout();
  const auto resumed = start("run", {address_list("rollout.addresses", {second.address()})});
  expect_same_as_embedded(*resumed, "run");
  EXPECT_NE(resumed->err().find("resuming from"), std::string::npos) << resumed->err();
}

TEST_F(Services, AWorkerOfAnotherKindIsRefused) {
  MoerlServer worker = MoerlServer::rollout({"model.dtype=f32"});
  const testing::Outcome outcome = testing::run_moerl(
      train_arguments(directory_ / "run", {address_list("rollout.addresses", {worker.address()})}));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("f32"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("bf16"), std::string::npos) << outcome.err;
}

TEST_F(Services, ServersEndOnSigterm) {
  MoerlServer rollout = MoerlServer::rollout(), reward = MoerlServer::reward();
  for (MoerlServer* server : {&rollout, &reward}) {
    server->process().send(SIGTERM);
    ASSERT_TRUE(server->process().ends_within(30s));
    EXPECT_EQ(server->process().exit_code(), 0) << server->process().err();
  }
}

TEST_F(Services, APortThatIsTakenIsNamed) {
  const MoerlServer reward = MoerlServer::reward();
  const testing::Outcome outcome =
      testing::run_moerl({"serve", "reward", "--address", reward.address()});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find(reward.address()), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace moerl
