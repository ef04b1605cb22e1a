// The countdown recipe by the program that is linked with the emulator: device: cuda end to end.
#include <gtest/gtest.h>

#include "common/file.h"
#include "testing/paths.h"
#include "tests/testing/mpi_runs.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

/// Three steps of GRPO after a little of SFT: what the emulator does in seconds.
Arguments few_steps(const Arguments& more) {
  Arguments arguments = {"task.countdown.demonstrations=12",
                         "task.countdown.val_size=2",
                         "val.n=1",
                         "val.max_response_length=8",
                         "stages.0.sft.train_batch_size=6",
                         "stages.1.train_batch_size=2",
                         "stages.1.rollout.n=2",
                         "stages.1.total_training_steps=3",
                         "stages.1.max_response_length=12",
                         "stages.1.filter_groups.enable=false",
                         "stages.1.actor.ppo_mini_batch_size=1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

class RunOnDeviceTest : public ::testing::Test {
 protected:
  RunOnDeviceTest() { fs::remove_all(folder_); }
  ~RunOnDeviceTest() override { fs::remove_all(folder_); }

  RunResult run(const std::string& name, const std::string& device, const Arguments& more) const {
    Arguments overrides = few_steps(more);
    overrides.push_back("device=" + device);
    const fs::path program = device == "cuda" ? emulated_ : moerl_program();
    const Outcome outcome =
        run_program(program, train_arguments(folder_ / name, overrides), {}, {});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.exit_code == 0 ? read_run(folder_ / name) : RunResult{};
  }

  const fs::path emulated_ = fs::path(MOERL_BUILD_DIR) / "moerl_emulated";
  const fs::path folder_ =
      fs::path(::testing::TempDir()) / ("moerl_run_on_device_" + std::to_string(::getpid()));
};

TEST_F(RunOnDeviceTest, Fp32IsTheRunOfTheCpuBitForBit) {
  EXPECT_TRUE(
      same_run(run("cuda", "cuda", {"model.dtype=f32"}), run("cpu", "cpu", {"model.dtype=f32"})));
}

// Gradients, weights and the experts' rows travel in the memory of the devices.
TEST_F(RunOnDeviceTest, RanksComputeTheRunOfOne) {
  if (!has_mpi()) GTEST_SKIP() << "no MPI here (Debian: libopenmpi-dev openmpi-bin)";
  const Arguments shards = {"model.dtype=f32", "parallel.data_parallel_size=2"};
  const RunResult one = run("one", "cpu", shards);
  Arguments on_ranks = few_steps(shards);
  on_ranks.push_back("device=cuda");
  EXPECT_TRUE(same_run(train_on_ranks(2, folder_ / "two", on_ranks, emulated_), one));
  on_ranks.push_back("parallel.expert_parallel_size=2");
  EXPECT_TRUE(same_run(train_on_ranks(2, folder_ / "experts", on_ranks, emulated_), one));
}

class TensorCoreRunTest : public RunOnDeviceTest,
                          public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(, TensorCoreRunTest, ::testing::Values("bf16", "fp8"),
                         [](const auto& info) { return info.param; });

TEST_P(TensorCoreRunTest, SamplesWhatItTrains) {
  const Arguments precision = {std::string("model.dtype=") + GetParam()};
  const RunResult cuda = run("cuda", "cuda", precision), cpu = run("cpu", "cpu", precision);
  int steps = 0;
  for (size_t i = 0; i < cuda.metrics.size(); ++i) {
    const nlohmann::json& line = cuda.metrics[i];
    if (line.contains("training/rollout_probs_diff_max")) {
      EXPECT_EQ(line["training/rollout_probs_diff_max"], 0) << line;
      ++steps;
    }
    // The same data in the same order: the losses agree as far as the precision does.
    if (line.contains("train/loss")) {
      const double loss = line["train/loss"], on_cpu = cpu.metrics.at(i)["train/loss"];
      EXPECT_NEAR(loss, on_cpu, 0.01 * on_cpu);
    }
  }
  EXPECT_EQ(steps, 3);
  EXPECT_NE(read_file(folder_ / "cuda" / "metrics.jsonl").find("\"perf/max_memory_allocated_gb\":"),
            std::string::npos);
}

TEST_F(RunOnDeviceTest, WithoutADeviceItSaysSo) {
  Arguments overrides = few_steps({"device=cuda"});
  const Outcome outcome = run_program(moerl_program(), train_arguments(folder_ / "no", overrides),
                                      {{"CUDA_VISIBLE_DEVICES", ""}}, {});
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.err.find("no CUDA device answers") != std::string::npos ||
              outcome.err.find("this build has no CUDA backend") != std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace moerl::testing
