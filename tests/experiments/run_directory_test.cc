#include "experiments/run_directory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/weights_io.h"
#include "tests/experiments/temporary_directory.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe = "name: a\nseed: 1\n";

class RunDirectoryTest : public ::testing::Test {
 protected:
  fs::path path() const { return directory_.path() / "run"; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const fs::path& p : RunDirectory::checkpoints(path())) out.push_back(p.filename());
    return out;
  }
  TemporaryDirectory directory_;
};

TEST_F(RunDirectoryTest, HoldsTheResolvedRecipe) {
  const RunDirectory run(path(), kRecipe, "disable");
  EXPECT_EQ(directory_.read("run/config.resolved.yaml"), kRecipe);
  EXPECT_TRUE(fs::is_directory(path() / "checkpoints"));
  EXPECT_FALSE(run.newest_checkpoint().has_value());
}

TEST_F(RunDirectoryTest, IsUsedByOneAtATime) {
  {
    const RunDirectory run(path(), kRecipe, "auto");
    EXPECT_NE(error_of<IoError>([&] { RunDirectory(path(), kRecipe, "auto"); }).find("in use"),
              std::string::npos);
    // Another process, too.
    const pid_t child = ::fork();
    if (child == 0) {
      const bool refused =
          !error_of<IoError>([&] { RunDirectory(path(), kRecipe, "auto"); }).empty();
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_NO_THROW(RunDirectory(path(), kRecipe, "auto"));
}

TEST_F(RunDirectoryTest, ARefusedRunLetsGoOfTheLock) {
  RunDirectory(path(), kRecipe, "auto");
  directory_.write("run/metrics.jsonl", "{}\n");
  EXPECT_THROW(RunDirectory(path(), "name: b\n", "auto"), ConfigError);
  EXPECT_NO_THROW(RunDirectory(path(), kRecipe, "auto"));
}

TEST_F(RunDirectoryTest, AnotherRecipeIsRefusedAndTheDifferenceNamed) {
  RunDirectory(path(), kRecipe, "auto");
  directory_.write("run/metrics.jsonl", "{}\n");
  const std::string error =
      error_of<ConfigError>([&] { RunDirectory(path(), "name: a\nseed: 2\n", "auto"); });
  EXPECT_NE(error.find("'seed: 1'"), std::string::npos) << error;
  EXPECT_NE(error.find("'seed: 2'"), std::string::npos) << error;
  const std::string longer =
      error_of<ConfigError>([&] { RunDirectory(path(), concat(kRecipe, "more: 1\n"), "auto"); });
  EXPECT_NE(longer.find("'more: 1'"), std::string::npos) << longer;
  EXPECT_EQ(directory_.read("run/config.resolved.yaml"), kRecipe);
}

TEST_F(RunDirectoryTest, ResumeModeDisableRefusesAUsedDirectory) {
  RunDirectory(path(), kRecipe, "disable");
  directory_.write("run/metrics.jsonl", "{}\n");
  EXPECT_NE(
      error_of<ConfigError>([&] { RunDirectory(path(), kRecipe, "disable"); }).find("resume_mode"),
      std::string::npos);
}

TEST_F(RunDirectoryTest, ARunThatFailedAtItsStartDoesNotClaimTheDirectory) {
  RunDirectory(path(), kRecipe, "disable");
  EXPECT_NO_THROW(RunDirectory(path(), "name: b\n", "disable"));
  EXPECT_EQ(directory_.read("run/config.resolved.yaml"), "name: b\n");
}

TEST_F(RunDirectoryTest, WhatCannotChangeTheResultMayChange) {
  const std::string old =
      "seed: 1\nnum_threads: 2\nrollout:\n  num_workers: 1\ntrainer:\n"
      "  resume_mode: disable\n  log_samples: true\n";
  const std::string now =
      "seed: 1\nnum_threads: 7\nrollout:\n  num_workers: 3\ntrainer:\n"
      "  resume_mode: auto\n  log_samples: true\n";
  RunDirectory(path(), old, "disable");
  directory_.write("run/metrics.jsonl", "{}\n");
  EXPECT_NO_THROW(RunDirectory(path(), now, "auto"));
  EXPECT_EQ(directory_.read("run/config.resolved.yaml"), now);
  EXPECT_THROW(RunDirectory(path(), now + "  test_freq: 5\n", "auto"), ConfigError);
}

TEST_F(RunDirectoryTest, UnwritablePlacesAreNamed) {
  directory_.write("file", "");
  EXPECT_NE(error_of<IoError>([&] {
              RunDirectory(directory_.path() / "file/run", "", "auto");
            }).find("file/run"),
            std::string::npos);
}

TEST_F(RunDirectoryTest, WhatACrashLeftHalfWrittenIsRemoved) {
  RunDirectory(path(), kRecipe, "auto");
  for (const char* name : {"step-000020", "step-000040.tmp", "other"})
    fs::create_directories(path() / "checkpoints" / name / "x");
  const RunDirectory run(path(), kRecipe, "auto");
  EXPECT_FALSE(fs::exists(path() / "checkpoints/step-000040.tmp"));
  EXPECT_EQ(names(), std::vector<std::string>{"step-000020"});
  EXPECT_EQ(run.newest_checkpoint()->filename(), "step-000020");
}

TEST_F(RunDirectoryTest, TheNewestCheckpointIsThatOfTheLargestStep) {
  const RunDirectory run(path(), kRecipe, "auto");
  for (const char* name : {"step-999999", "step-000200", "step-1000000", "step-000030"})
    fs::create_directories(path() / "checkpoints" / name);
  EXPECT_EQ(names(), (std::vector<std::string>{"step-000030", "step-000200", "step-999999",
                                               "step-1000000"}));
  EXPECT_EQ(run.newest_checkpoint()->filename(), "step-1000000");
}

TEST_F(RunDirectoryTest, CheckpointsHoldTheRunAndTheOldestAreRemoved) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, plain_config(), DType::kF32, 1);
  const auto reference = make_model(ctx, plain_config(), DType::kF32, 2);
  AdamW optimizer(model->parameters(), {});
  RunDirectory run(path(), kRecipe, "auto");
  RunState state{.stage = 1, .stage_step = 2, .policy_version = 5, .prompts_drawn = 77};
  for (int64_t step : {10, 20, 30}) {
    state.global_step = step;
    run.save_checkpoint(ctx, state, *model, optimizer, step == 30 ? reference.get() : nullptr,
                        "{\"tokens\": 1}", 2);
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"step-000020", "step-000030"}));
  const fs::path newest = *run.newest_checkpoint();
  EXPECT_EQ(newest.filename(), "step-000030");
  for (const auto& entry : fs::directory_iterator(path() / "checkpoints"))
    EXPECT_NE(entry.path().extension(), ".tmp");

  const RunState read = RunDirectory::read_state(newest);
  EXPECT_EQ(read.global_step, 30);
  EXPECT_EQ(read.stage, 1);
  EXPECT_EQ(read.stage_step, 2);
  EXPECT_EQ(read.policy_version, 5);
  EXPECT_EQ(read.prompts_drawn, 77);

  const auto same = [](const Transformer& a, const Transformer& b) {
    for (size_t i = 0; i < a.parameters().size(); ++i)
      if (!same_bits(a.parameters()[i]->value, b.parameters()[i]->value)) return false;
    return true;
  };
  const auto loaded = make_model(ctx, plain_config(), DType::kF32, 9);
  load_weights(ctx, *loaded, newest);
  EXPECT_TRUE(same(*loaded, *model));
  load_weights(ctx, *loaded, newest / "reference");
  EXPECT_TRUE(same(*loaded, *reference));
  EXPECT_FALSE(fs::exists(path() / "checkpoints/step-000020/reference"));
  EXPECT_NO_THROW(optimizer.load(newest / "optimizer.safetensors"));
  EXPECT_EQ(directory_.read("run/checkpoints/step-000030/tokenizer.json"), "{\"tokens\": 1}");
  EXPECT_TRUE(fs::exists(newest / "config.json"));
}

TEST_F(RunDirectoryTest, ACheckpointOfTheSameStepIsReplaced) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, plain_config(), DType::kF32, 1);
  AdamW optimizer(model->parameters(), {});
  RunDirectory run(path(), kRecipe, "auto");
  for (int64_t drawn : {1, 2})
    run.save_checkpoint(ctx, {.global_step = 5, .prompts_drawn = drawn}, *model, optimizer, nullptr,
                        "", 3);
  EXPECT_EQ(names(), std::vector<std::string>{"step-000005"});
  EXPECT_EQ(RunDirectory::read_state(*run.newest_checkpoint()).prompts_drawn, 2);
}

TEST_F(RunDirectoryTest, BrokenStatesAreNamed) {
  for (const char* text : {"", "[]", "{\"global_step\": \"x\"}", "{\"global_step\": 1}"}) {
    directory_.write("state.json", text);
    EXPECT_NE(
        error_of<IoError>([&] { RunDirectory::read_state(directory_.path()); }).find("state.json"),
        std::string::npos)
        << text;
  }
}

}  // namespace
}  // namespace moerl::testing
