// Runs that are killed, and go on.
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/rng.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::Arguments;
using testing::ChildProcess;
using testing::moerl_program;
using testing::Outcome;
using testing::run_moerl;
using testing::RunResult;
using testing::same_run;
using testing::train;
using testing::train_arguments;

class Resume : public ::testing::Test {
 protected:
  Outcome run(const Arguments& overrides = {}) {
    return run_moerl(train_arguments(directory_ / "run", overrides));
  }
  std::unique_ptr<ChildProcess> start(const Arguments& overrides = {}) {
    return std::make_unique<ChildProcess>(moerl_program(),
                                          train_arguments(directory_ / "run", overrides));
  }
  /// Refused, with an error that holds the part.
  static void expect_refused(const Outcome& outcome, const std::string& part) {
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_NE(outcome.err.find("moerl: error: "), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  }

  testing::TempDirectory directory_;
};

int num_kills() {
  const char* text = std::getenv("MOERL_KILLS");
  return text == nullptr ? 12 : std::atoi(text);
}

// A checkpoint after every step, so that much of the time goes into writing them, and some kills
// fall there.
TEST_F(Resume, ARunThatIsKilledAtAnyMomentEndsWithTheSameBits) {
  const Arguments overrides = {"task.countdown.demonstrations=180", "stages.0.save_freq=1",
                               "stages.0.test_freq=4", "stages.1.total_training_steps=12"};
  const auto began = std::chrono::steady_clock::now();
  const RunResult whole = train(directory_ / "whole", overrides);
  const auto duration = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  Rng rng(20240607);
  int kills = 0, num_runs = 0;
  while (kills < num_kills()) {
    const std::string name = "killed" + std::to_string(num_runs++);
    bool finished = false;
    while (!finished) {
      ChildProcess trainer(moerl_program(), train_arguments(directory_ / name, overrides));
      // Short lives, or a run would see only few kills.
      const bool let_it_live = kills >= num_kills();
      const auto life = let_it_live ? 120'000ms
                                    : std::chrono::duration_cast<std::chrono::milliseconds>(
                                          duration * (0.1 + 0.5 * rng.uniform()));
      finished = trainer.ends_within(life);
      if (finished) {
        ASSERT_EQ(trainer.exit_code(), 0) << trainer.err();
      } else {
        trainer.kill();
        ++kills;
      }
    }
    ASSERT_TRUE(same_run(whole, testing::read_run(directory_ / name)))
        << "after " << kills << " kills";
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / name / "checkpoints"))
      EXPECT_NE(entry.path().extension(), ".tmp");
  }
}

// The moment that matters most: a checkpoint half written, or an old one half removed.
TEST_F(Resume, WhatAKilledRunLeftHalfWrittenIsRemoved) {
  const RunResult whole = train(directory_ / "whole");
  {
    const auto trainer = start();
    ASSERT_TRUE(trainer->has_written("grpo 3/4"));
    trainer->kill();
  }
  const std::filesystem::path checkpoints = directory_ / "run/checkpoints";
  const std::filesystem::path newest = testing::last_checkpoint(directory_ / "run");
  std::filesystem::create_directory(checkpoints / "step-009999.tmp");
  testing::write_text(checkpoints / "step-009999.tmp/model.safetensors", "half");
  // A line that was cut, rows of a step that is done again.
  const std::filesystem::path metrics = directory_ / "run/metrics.jsonl";
  testing::write_text(metrics, testing::file_bytes(metrics) + "{\"training/global_step\":99,\"st");
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(checkpoints / "step-009999.tmp"));
  EXPECT_TRUE(same_run(whole, testing::read_run(directory_ / "run"))) << newest;
}

TEST_F(Resume, AFinishedRunIsLeftAsItIs) {
  ASSERT_EQ(run().exit_code, 0);
  const RunResult first = testing::read_run(directory_ / "run");
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_TRUE(same_run(first, testing::read_run(directory_ / "run")));
}

TEST_F(Resume, SigtermEndsARunThatGoesOnLater) {
  const RunResult whole = train(directory_ / "whole");
  const auto trainer = start();
  ASSERT_TRUE(trainer->has_written("grpo 1/4"));
  trainer->send(SIGTERM);
  ASSERT_TRUE(trainer->ends_within(60s));
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_TRUE(same_run(whole, testing::read_run(directory_ / "run")));
}

TEST_F(Resume, OtherSettingsOfTheMachineAreNoOtherRecipe) {
  const RunResult whole = train(directory_ / "whole");
  {
    const auto trainer = start({"trainer.resume_mode=disable"});
    ASSERT_TRUE(trainer->has_written("grpo 1/4"));
    trainer->kill();
  }
  const Outcome outcome = run({"num_threads=1", "rollout.num_workers=2", "rollout.max_num_seqs=5",
                               "trainer.max_ckpt_to_keep=1"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(same_run(whole, testing::read_run(directory_ / "run")));
  EXPECT_EQ(
      testing::file_bytes(directory_ / "run/config.resolved.yaml").find("resume_mode: disable"),
      std::string::npos);
}

TEST_F(Resume, AnotherRecipeIsRefused) {
  ASSERT_EQ(run().exit_code, 0);
  const Outcome outcome = run({"stages.1.actor.optim.lr=5e-4"});
  expect_refused(outcome, "another recipe");
  EXPECT_NE(outcome.err.find("lr"), std::string::npos) << outcome.err;
  expect_refused(run({"seed=5"}), "seed: 5");
}

TEST_F(Resume, AUsedDirectoryIsRefusedIfResumingIsDisabled) {
  ASSERT_EQ(run({"trainer.resume_mode=disable"}).exit_code, 0);
  expect_refused(run({"trainer.resume_mode=disable"}), "resume_mode");
}

TEST_F(Resume, ADirectoryInUseIsRefused) {
  const auto trainer = start({"stages.1.total_training_steps=200"});
  ASSERT_TRUE(trainer->has_written("cold-start 1/"));
  expect_refused(run({"stages.1.total_training_steps=200"}), "in use");
}

TEST_F(Resume, ADirectoryThatCannotBeWrittenIsNamed) {
  testing::write_text(directory_ / "run", "a file");
  expect_refused(run(), (directory_ / "run").string());
}

TEST_F(Resume, ACheckpointThatWasDamagedIsRefusedByName) {
  {
    const auto trainer = start();
    ASSERT_TRUE(trainer->has_written("grpo 3/4"));
    trainer->kill();
  }
  const std::filesystem::path file =
      testing::last_checkpoint(directory_ / "run") / "model.safetensors";
  testing::write_text(file, testing::file_bytes(file).substr(0, 1000));
  expect_refused(run(), file.string());
}

}  // namespace
}  // namespace moerl
