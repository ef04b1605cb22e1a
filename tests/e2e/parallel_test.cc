// Runs over several processes, started by mpirun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/moerl_servers.h"
#include "tests/testing/mpi_runs.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::Arguments;
using testing::ChildProcess;
using ::testing::HasSubstr;
using testing::Outcome;
using testing::RunResult;
using testing::same_run;
using testing::train;
using testing::train_on_ranks;

class Parallel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::has_mpi()) GTEST_SKIP() << "this build has no MPI (Debian: libopenmpi-dev)";
  }
  Outcome launch(int num_ranks, const Arguments& overrides) {
    return testing::run_program(
        testing::kMpirun, testing::mpirun_arguments(num_ranks, directory_ / "run", overrides));
  }
  std::unique_ptr<ChildProcess> start(int num_ranks, const Arguments& overrides) {
    return std::make_unique<ChildProcess>(
        testing::kMpirun, testing::mpirun_arguments(num_ranks, directory_ / "run", overrides));
  }

  testing::TempDirectory directory_;
};

/// One thread a rank.
Arguments shards(int n, const Arguments& more = {}) {
  Arguments arguments = {"num_threads=1", "parallel.data_parallel_size=" + std::to_string(n)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

/// Sends one of the ranks a signal, which must end the run in time, for the reason given.
void hit_a_rank(ChildProcess& run, size_t num_ranks, size_t rank, int signal,
                std::chrono::seconds deadline, const std::string& reason) {
  const std::vector<pid_t> ranks = testing::children_of(run.pid());
  ASSERT_EQ(ranks.size(), num_ranks);
  ::kill(ranks[rank], signal);
  ASSERT_TRUE(run.ends_within(deadline));
  EXPECT_NE(run.exit_code(), 0);
  EXPECT_THAT(run.err(), HasSubstr(reason));
}

TEST_F(Parallel, RanksChangeNothing) {
  const RunResult one = train(directory_ / "one", shards(4));
  EXPECT_FALSE(one.samples.empty());
  EXPECT_TRUE(same_run(one, train_on_ranks(2, directory_ / "two", shards(4))));
  EXPECT_TRUE(same_run(one, train_on_ranks(3, directory_ / "three", shards(4))));
  EXPECT_TRUE(same_run(one, train_on_ranks(4, directory_ / "four", shards(4))));
}

TEST_F(Parallel, RunningAgainGivesTheSameBits) {
  const RunResult first = train_on_ranks(2, directory_ / "first", shards(2));
  EXPECT_TRUE(same_run(first, train_on_ranks(2, directory_ / "second", shards(2))));
}

TEST_F(Parallel, EveryLayoutOfTheModelAndEveryTermOfTheLossWorks) {
  const Arguments overrides =
      shards(2, {"model.dtype=f32", "stages.1.actor.loss_agg_mode=seq-mean-token-mean",
                 "stages.1.actor.aux_loss_alpha=0.01", "stages.1.actor.entropy_coeff=0.01",
                 "stages.1.actor.router_bias_update_rate=0.01", "stages.1.actor.recompute=true"});
  const RunResult one = train(directory_ / "one", overrides);
  EXPECT_TRUE(same_run(one, train_on_ranks(2, directory_ / "two", overrides)));
}

// The loss is normalised over the whole update and not shard by shard: what differs is rounding.
/// Of n ranks, `size` share the experts.
Arguments experts(int n, int size, Arguments more = {}) {
  more.push_back("parallel.expert_parallel_size=" + std::to_string(size));
  return shards(n, more);
}

TEST_F(Parallel, SharedExpertsChangeNothing) {
  const RunResult one = train(directory_ / "one", shards(4));
  EXPECT_TRUE(same_run(one, train_on_ranks(2, directory_ / "two", experts(4, 2))));
  EXPECT_TRUE(same_run(one, train_on_ranks(4, directory_ / "four", experts(4, 4))));
  EXPECT_TRUE(same_run(one, train_on_ranks(4, directory_ / "pairs", experts(4, 2))));
}

TEST_F(Parallel, SharedExpertsWorkWithEveryTermOfTheLoss) {
  const Arguments terms = {"model.dtype=f32",
                           "stages.0.sft.max_token_len=100",
                           "stages.1.actor.ppo_max_token_len=100",
                           "stages.1.actor.aux_loss_alpha=0.01",
                           "stages.1.actor.entropy_coeff=0.01",
                           "stages.1.actor.router_bias_update_rate=0.01",
                           "stages.1.actor.recompute=true"};
  const RunResult one = train(directory_ / "one", shards(3, terms));
  EXPECT_TRUE(same_run(one, train_on_ranks(2, directory_ / "two", experts(3, 2, terms))));
}

TEST_F(Parallel, SharedExpertsAreSentToWorkersElsewhere) {
  const testing::MoerlServer worker = testing::MoerlServer::rollout();
  const RunResult one = train(directory_ / "one", shards(2));
  const Arguments addresses = {testing::address_list("rollout.addresses", {worker.address()})};
  EXPECT_TRUE(same_run(one, train_on_ranks(2, directory_ / "two", experts(2, 2, addresses))));
}

TEST_F(Parallel, AKilledRankEndsTheOthersAndOtherSharesOfTheExpertsGoOn) {
  const RunResult whole = train(directory_ / "whole", shards(4));
  {
    const auto run = start(4, experts(4, 4));
    ASSERT_TRUE(run->has_written("grpo 1/4"));
    hit_a_rank(*run, 4, 2, SIGKILL, 30s, "signal 9 (Killed)");
  }
  EXPECT_TRUE(same_run(whole, train_on_ranks(2, directory_ / "run", experts(4, 2))));
}

TEST_F(Parallel, ARankThatHangsWhileTheOthersNeedItsExpertsIsNamed) {
  const auto run =
      start(2, experts(2, 2, {"parallel.timeout_s=3", "stages.1.total_training_steps=500"}));
  ASSERT_TRUE(run->has_written("grpo 1/500"));
  hit_a_rank(*run, 2, 1, SIGSTOP, 60s, "rank 0 of 2 waited 3 s in vain for rank 1");
}

TEST_F(Parallel, RanksAndExpertsMustDivide) {
  EXPECT_THAT(launch(3, experts(4, 2)).err,
              HasSubstr("3 ranks were launched, expected a multiple of "
                        "parallel.expert_parallel_size = 2"));
  EXPECT_THAT(launch(3, experts(3, 3)).err,
              HasSubstr("the model has 4 routed experts, expected a multiple of "
                        "parallel.expert_parallel_size = 3"));
  EXPECT_THAT(testing::run_moerl(testing::train_arguments(directory_ / "run", experts(2, 2))).err,
              HasSubstr("1 rank was launched, expected a multiple of "
                        "parallel.expert_parallel_size = 2"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
}

TEST_F(Parallel, ShardsDivideTheSameUpdate) {
  const RunResult one = train(directory_ / "one", shards(1));
  const RunResult three = train(directory_ / "three", shards(3));
  const auto first_update = [](const RunResult& run) {
    for (const nlohmann::json& line : run.metrics)
      if (line.contains("train/grad_norm")) return line;
    return nlohmann::json();
  };
  const nlohmann::json a = first_update(one), b = first_update(three);
  for (const char* name : {"train/loss", "train/grad_norm", "train/balance_loss"})
    EXPECT_NEAR(a.at(name).get<double>(), b.at(name).get<double>(), 1e-4 * a.at(name).get<double>())
        << name;
  EXPECT_EQ(a.at("train/tokens"), b.at("train/tokens"));
  EXPECT_NE(one.weights, three.weights);
}

TEST_F(Parallel, AKilledRankEndsTheOthersAndAnyNumberGoesOn) {
  const RunResult whole = train(directory_ / "whole", shards(4));
  {
    const auto run = start(2, shards(4));
    ASSERT_TRUE(run->has_written("cold-start 12/"));
    hit_a_rank(*run, 2, 1, SIGKILL, 30s, "signal 9 (Killed)");
  }
  EXPECT_TRUE(same_run(whole, train_on_ranks(4, directory_ / "run", shards(4))));
}

TEST_F(Parallel, ARankThatHangsIsNamedAndEndsTheRun) {
  const auto run = start(2, shards(2, {"parallel.timeout_s=3", "rollout.keepalive_s=1",
                                       "stages.1.total_training_steps=500"}));
  ASSERT_TRUE(run->has_written("grpo 1/500"));
  hit_a_rank(*run, 2, 1, SIGSTOP, 60s, "rank 0 of 2 waited 3 s in vain for rank 1");
}

TEST_F(Parallel, AnErrorOnOneRankEndsAll) {
  const Outcome outcome = launch(2, shards(2, {"reward.verifier=nobody"}));
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("moerl: error: rank 0: "));
  EXPECT_THAT(outcome.err, HasSubstr("nobody"));
}

TEST_F(Parallel, MoreRanksThanShardsAreRefused) {
  const Outcome outcome = launch(3, shards(2));
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err,
              HasSubstr("3 ranks were launched, more than parallel.data_parallel_size = 2"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
}

// Each launcher says in its own way how many it has started: Open MPI, MPICH and Slurm's PMI, srun.
TEST_F(Parallel, EveryLaunchersRanksAreCounted) {
  const std::string shards = "parallel.data_parallel_size=2";
  const Arguments check = {"check", testing::tiny_recipe(), shards};
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    EXPECT_EQ(testing::run_moerl(check, {{variable, "2"}}).exit_code, 0) << variable;
    EXPECT_THAT(testing::run_moerl(check, {{variable, "3"}}).err,
                HasSubstr("3 ranks were launched, more than parallel.data_parallel_size = 2"))
        << variable;
  }
}

TEST_F(Parallel, AnotherNumberOfShardsIsAnotherRecipe) {
  ASSERT_EQ(launch(2, shards(2)).exit_code, 0);
  EXPECT_THAT(launch(2, shards(4)).err, HasSubstr("data_parallel_size: 2"));
}

}  // namespace
}  // namespace moerl
