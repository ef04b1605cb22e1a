// A run is a function of recipe, seed and weights: whatever else may differ between two runs, every
// line of metrics, every sampled token and every bit of the trained weights is the same.
#include <gtest/gtest.h>

#include "tests/testing/isas.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

using testing::Arguments;
using testing::RunResult;
using testing::same_run;
using testing::train;

/// Every combination that has numerics of its own.
struct Numerics {
  const char* name;
  Arguments overrides;
};
void PrintTo(const Numerics& numerics, std::ostream* out) { *out << numerics.name; }
const Numerics kNumerics[] = {
    {"bf16_expanded", {"model.dtype=bf16", "model.mla_form=expanded"}},
    {"bf16_absorbed", {"model.dtype=bf16", "model.mla_form=absorbed"}},
    {"f32_expanded", {"model.dtype=f32", "model.mla_form=expanded"}},
    {"f32_absorbed", {"model.dtype=f32", "model.mla_form=absorbed"}},
    {"fp8_expanded", {"model.dtype=fp8", "model.mla_form=expanded"}},
};

class RunInvariance : public ::testing::TestWithParam<Numerics> {
 protected:
  RunResult run(const Arguments& more = {}, const testing::Environment& environment = {}) {
    Arguments overrides = GetParam().overrides;
    overrides.insert(overrides.end(), more.begin(), more.end());
    return train(directory_ / std::to_string(++num_runs_), overrides, environment);
  }

  testing::TempDirectory directory_;
  int num_runs_ = 0;
};

INSTANTIATE_TEST_SUITE_P(, RunInvariance, ::testing::ValuesIn(kNumerics),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(RunInvariance, RunningAgainGivesTheSameBits) {
  const RunResult first = run();
  EXPECT_TRUE(same_run(first, run()));
  EXPECT_FALSE(first.samples.empty());
  EXPECT_FALSE(first.weights.empty());
}

TEST_P(RunInvariance, AnotherSeedGivesAnotherRun) {
  const RunResult first = run(), other = run({"seed=2"});
  EXPECT_NE(first.weights, other.weights);
  EXPECT_NE(first.metrics, other.metrics);
}

TEST_P(RunInvariance, ThreadsChangeNothing) {
  const RunResult one = run({"num_threads=1"});
  EXPECT_TRUE(same_run(one, run({"num_threads=2"})));
  EXPECT_TRUE(same_run(one, run({"num_threads=3"})));
}

TEST_P(RunInvariance, WorkersChangeNothing) {
  const RunResult one = run({"rollout.num_workers=1"});
  EXPECT_TRUE(same_run(one, run({"rollout.num_workers=2"})));
  EXPECT_TRUE(same_run(one, run({"rollout.num_workers=3", "reward.num_workers=3"})));
}

TEST_P(RunInvariance, LimitsOfTheEngineChangeNothing) {
  const RunResult roomy = run();
  EXPECT_TRUE(same_run(roomy, run({"rollout.max_num_seqs=1", "rollout.max_batched_tokens=1"})));
  EXPECT_TRUE(same_run(roomy, run({"rollout.max_num_seqs=5", "rollout.max_batched_tokens=7"})));
}

// Five blocks of 32 tokens in bf16: two sequences of full length and no more, so that of the many
// that start together most are preempted.
TEST_P(RunInvariance, PreemptionChangesNothing) {
  EXPECT_TRUE(same_run(
      run(), run({GetParam().overrides[0] == "model.dtype=f32" ? "rollout.kv_cache_gb=1e-4"
                                                               : "rollout.kv_cache_gb=5e-5"})));
}

TEST_P(RunInvariance, RecomputingActivationsChangesNothing) {
  EXPECT_TRUE(
      same_run(run(), run({"stages.0.sft.recompute=true", "stages.1.actor.recompute=true"})));
}

TEST_P(RunInvariance, InstructionLevelsChangeNothing) {
  // The portable level is slow: fewer steps, all of the code.
  const Arguments short_run = {"task.countdown.demonstrations=36", "val.n=1",
                               "stages.1.total_training_steps=2"};
  const RunResult portable = run(short_run, {{"MOERL_ISA", "portable"}});
  for (Isa isa : testing::available_isas()) {
    if (isa == Isa::kPortable) continue;
    EXPECT_TRUE(same_run(portable, run(short_run, {{"MOERL_ISA", isa_name(isa)}})))
        << isa_name(isa);
  }
}

// The sampler and the trainer are one forward pass.
TEST_P(RunInvariance, TheTrainerReproducesEveryProbabilityOfTheSampler) {
  const RunResult result = run({"stages.1.rollout.temperature=0.8", "stages.1.rollout.top_p=0.95"});
  int num_updates = 0;
  for (const nlohmann::json& line : result.metrics) {
    if (!line.contains("actor/grad_norm") || line["stage"] != "grpo") continue;
    ++num_updates;
    EXPECT_EQ(line.at("training/rollout_probs_diff_max"), 0.0) << line;
    EXPECT_EQ(line.at("training/rollout_probs_diff_mean"), 0.0) << line;
  }
  EXPECT_GE(num_updates, 2);
}

TEST(Run, LearnsTheFormOfAnAnswer) {
  testing::TempDirectory directory;
  const RunResult result = train(directory / "run");
  double first = 0, last = 0;
  for (const nlohmann::json& line : result.metrics) {
    if (!line.contains("train/loss")) continue;
    if (first == 0) first = line["train/loss"];
    last = line["train/loss"];
  }
  EXPECT_GT(first, 5);
  EXPECT_LT(last, 0.5 * first);
}

TEST(Run, KeepsNoSamplesWhenToldSoAndTrainsTheSame) {
  testing::TempDirectory directory;
  RunResult with = train(directory / "with");
  const Arguments off = {"trainer.log_samples=false"};
  const testing::Outcome outcome =
      testing::run_moerl(testing::train_arguments(directory / "without", off));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(directory / "without/samples.sqlite"));
  EXPECT_EQ(testing::read_metrics(directory / "without"), with.metrics);
}

}  // namespace
}  // namespace moerl
