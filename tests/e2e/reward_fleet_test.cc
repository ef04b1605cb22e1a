// Reward servers that die, hang or answer nonsense while a run goes on; rewards of several parts.
#include <gtest/gtest.h>

#include "tests/testing/garbage_reward_server.h"
#include "tests/testing/moerl_servers.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::address_list;
using testing::Arguments;
using testing::ChildProcess;
using testing::Garbage;
using testing::MoerlServer;
using testing::RunResult;
using testing::same_run;
using testing::train;

Arguments longer(Arguments overrides = {}) {
  overrides.insert(overrides.end(), {"task.countdown.demonstrations=120",
                                     "stages.1.total_training_steps=12", "trainer.save_freq=6"});
  return overrides;
}

class RewardFleet : public ::testing::Test {
 protected:
  testing::TempDirectory directory_;
};

TEST_F(RewardFleet, AServerThatAnswersNonsenseChangesNothing) {
  const RunResult embedded = train(directory_ / "embedded");
  for (Garbage garbage :
       {Garbage::kUnknownIds, Garbage::kNan, Garbage::kTooFew, Garbage::kSilent}) {
    testing::GarbageRewardServer bad(garbage);
    MoerlServer good = MoerlServer::reward();
    const std::string name = "garbage" + std::to_string(static_cast<int>(garbage));
    EXPECT_TRUE(same_run(
        embedded,
        train(directory_ / name, {address_list("reward.addresses", {bad.address(), good.address()}),
                                  garbage == Garbage::kSilent ? "reward.call_timeout_s=0.2"
                                                              : "reward.call_timeout_s=60"})))
        << name;
    EXPECT_GE(bad.num_items(), 1) << name;
  }
}

TEST_F(RewardFleet, AServerThatHangsAndGoesOnChangesNothing) {
  MoerlServer a = MoerlServer::reward(), b = MoerlServer::reward();
  ChildProcess trainer(
      testing::moerl_program(),
      testing::train_arguments(directory_ / "run",
                               longer({address_list("reward.addresses", {a.address(), b.address()}),
                                       "reward.call_timeout_s=1"})));
  ASSERT_TRUE(trainer.has_written("grpo 2/12")) << trainer.err();
  a.process().send(SIGSTOP);
  ASSERT_TRUE(trainer.has_written("grpo 6/12")) << trainer.err();
  a.process().send(SIGCONT);
  b.kill();  // the one that hung must do the rest
  ASSERT_TRUE(trainer.ends_within(120s));
  ASSERT_EQ(trainer.exit_code(), 0) << trainer.err();
  EXPECT_TRUE(
      same_run(train(directory_ / "embedded", longer()), testing::read_run(directory_ / "run")));
}

const Arguments kComposite = {
    "reward.parts=[{name: acc, verifier: countdown, options: {format_weight: 0}, "
    "score_by_status: {correct: 1, incorrect: -1}}, "
    "{name: shape, verifier: format, options: {rule: think_then_text}, weight: 0.2, gate: "
    "answered}, "
    "{name: short, verifier: len, weight: 0.1}, {name: overlong, verifier: soft_overlong, "
    "options: {max_len: 48, cache_len: 16}}]"};

TEST_F(RewardFleet, PartsAreLoggedByNameAndAreTheSameOnServers) {
  const RunResult embedded = train(directory_ / "embedded", kComposite);
  MoerlServer a = MoerlServer::reward(), b = MoerlServer::reward();
  Arguments remote = kComposite;
  remote.push_back(address_list("reward.addresses", {a.address(), b.address()}));
  EXPECT_TRUE(same_run(embedded, train(directory_ / "remote", remote)));
  ASSERT_FALSE(embedded.metrics.empty());
  for (const char* part : {"acc", "shape", "short", "overlong"})
    EXPECT_TRUE(embedded.metrics.back().contains("reward/" + std::string(part) + "/mean")) << part;
  bool has_parts = false;
  for (const std::string& row : embedded.samples)
    has_parts = has_parts || row.find("\"overlong\":") != std::string::npos;
  EXPECT_TRUE(has_parts);
}

TEST_F(RewardFleet, ARouteRewardsItsDataSource) {
  const Arguments route = {"reward.verifier=exact_match",
                           "reward.routes=[{data_sources: [countdown], parts: [{name: countdown, "
                           "verifier: countdown}]}]"};
  EXPECT_TRUE(train(directory_ / "plain").weights == train(directory_ / "routed", route).weights);
  const testing::Outcome outcome = testing::run_moerl(testing::train_arguments(
      directory_ / "bad", {"reward.parts=[{verifier: len}, {verifier: countdown}]"}));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("put the part that judges the answer first"), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace moerl
