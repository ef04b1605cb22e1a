#include "experiments/stages/grpo_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/experiments/scored_group.h"

namespace moerl::testing {
namespace {

using Status = reward::VerdictStatus;

class GrpoMetricsTest : public ::testing::Test {
 protected:
  const PromptRow row_{
      .data_source = "countdown", .prompt = "p", .ground_truth = "g", .extra_info_json = {}};
};

TEST_F(GrpoMetricsTest, MeansOverTheCompletionsOfAStep) {
  BatchStatistics statistics;
  ScoredGroup mixed = group_of(
      row_,
      {scored(Status::kCorrect, 10), scored(Status::kIncorrect, 30),
       scored(Status::kNoAnswer, 50, FinishReason::kLength), scored(Status::kGoldError, 6)},
      4);
  mixed.completions[0].verdict.parts = {{"format", 1}, {"accuracy", 1}};
  mixed.completions[1].verdict.parts = {{"format", 0.5}, {"accuracy", 0}};
  statistics.add(mixed, {1, 0.1, 0, std::nan("")}, 50);
  statistics.add(group_of(row_, {scored(Status::kTimeout, 20), scored(Status::kIncorrect, 40)}, 8),
                 {0, 0}, 50);
  for (double advantage : {1.5, -0.5, -1.0}) statistics.add_advantage(advantage);
  const auto m = statistics.metrics(1);

  EXPECT_NEAR(m.at("critic/rewards/mean"), 1.1 / 5, 1e-12);
  EXPECT_EQ(m.at("critic/rewards/max"), 1);
  EXPECT_EQ(m.at("critic/rewards/min"), 0);
  EXPECT_EQ(m.at("critic/advantages/mean"), 0);
  EXPECT_EQ(m.at("critic/advantages/max"), 1.5);
  EXPECT_EQ(m.at("critic/advantages/min"), -1);
  EXPECT_NEAR(m.at("critic/acc/mean"), 1.0 / 5, 1e-12);
  EXPECT_NEAR(m.at("response_length/mean"), 156.0 / 6, 1e-12);
  EXPECT_EQ(m.at("response_length/max"), 50);
  EXPECT_EQ(m.at("response_length/min"), 6);
  EXPECT_EQ(m.at("prompt_length/mean"), 6);
  EXPECT_NEAR(m.at("response_length/clip_ratio"), 1.0 / 6, 1e-12);
  EXPECT_NEAR(m.at("reward/timeout_ratio"), 1.0 / 6, 1e-12);
  EXPECT_NEAR(m.at("reward/unscorable_ratio"), 1.0 / 6, 1e-12);
  EXPECT_NEAR(m.at("reward/no_answer_ratio"), 1.0 / 6, 1e-12);
  EXPECT_EQ(m.at("reward/format/mean"), 0.75);
  EXPECT_EQ(m.at("reward/accuracy/mean"), 0.5);
  const double mean = 1.1 / 3;
  const double std =
      std::sqrt(((1 - mean) * (1 - mean) + (0.1 - mean) * (0.1 - mean) + mean * mean) / 2);
  EXPECT_NEAR(m.at("reward_std"), std / 2, 1e-12);  // of the second group: 0
  EXPECT_EQ(m.at("frac_reward_zero_std"), 0.5);
  EXPECT_EQ(m.at("filter_groups/dropped"), 1);
  EXPECT_EQ(m.at("filter_groups/generated"), 2);
}

TEST_F(GrpoMetricsTest, AnEmptyStepIsFinite) {
  for (const auto& [name, value] : BatchStatistics().metrics(0))
    EXPECT_TRUE(std::isfinite(value)) << name;
}

TEST_F(GrpoMetricsTest, AllUnscorableIsFinite) {
  BatchStatistics statistics;
  statistics.add(group_of(row_, {scored(Status::kGoldError, 2), scored(Status::kInternalError, 2)}),
                 {std::nan(""), std::nan("")}, 10);
  const auto metrics = statistics.metrics(0);
  for (const auto& [name, value] : metrics) EXPECT_TRUE(std::isfinite(value)) << name;
  EXPECT_EQ(metrics.at("reward/unscorable_ratio"), 1);
  EXPECT_EQ(metrics.at("frac_reward_zero_std"), 1);
}

TEST_F(GrpoMetricsTest, TimingAndThroughput) {
  std::map<std::string, double> m;
  add_timing({.generation = {.generate_s = 2, .reward_tail_s = 0.5},
              .update_s = 1.5,
              .generated_tokens = 800,
              .rounds = 3},
             m);
  EXPECT_EQ(m.at("timing_s/step"), 4);
  EXPECT_EQ(m.at("timing_s/gen"), 2);
  EXPECT_EQ(m.at("timing_s/reward"), 0.5);
  EXPECT_EQ(m.at("timing_s/update_actor"), 1.5);
  EXPECT_EQ(m.at("perf/throughput"), 200);
  EXPECT_EQ(m.at("perf/gen_throughput"), 400);
  EXPECT_EQ(m.at("filter_groups/rounds"), 3);
  EXPECT_EQ(m.at("training/total_num_tokens"), 800);
}

TEST_F(GrpoMetricsTest, RecordsTakeOverTheCompletion) {
  ScoredGroup group = group_of(
      row_, {scored(Status::kCorrect, 3), scored(Status::kTimeout, 2, FinishReason::kLength)});
  group.prompt.prompt_id = 99;
  group.completions[1].completion.policy_version = 8;
  group.completions[1].response = "text";
  group.completions[1].verdict.extracted = "7";
  group.completions[1].verdict.parts = {{"format", 1}};
  EXPECT_EQ(count_tokens(group), 5);
  const SampleRecord r = to_record(group, 1, 12, "rl", "train", 0.25, -1.5, true);
  EXPECT_EQ(r.step, 12);
  EXPECT_EQ(r.stage, "rl");
  EXPECT_EQ(r.split, "train");
  EXPECT_EQ(r.prompt_id, 99u);
  EXPECT_EQ(r.sample_index, 1);
  EXPECT_EQ(r.data_source, "countdown");
  EXPECT_EQ(r.prompt, "p");
  EXPECT_EQ(r.ground_truth, "g");
  EXPECT_EQ(r.response, "text");
  EXPECT_EQ(r.token_ids, group.completions[1].completion.token_ids);
  EXPECT_EQ(r.log_probs, group.completions[1].completion.log_probs);
  EXPECT_EQ(r.finish_reason, "length");
  EXPECT_EQ(to_record(group, 0, 12, "rl", "train", 0, 0, true).finish_reason, "stop");
  EXPECT_EQ(r.status, "timeout");
  EXPECT_EQ(r.extracted, "7");
  EXPECT_EQ(r.parts, (std::map<std::string, double>{{"format", 1}}));
  EXPECT_EQ(r.reward, 0.25);
  EXPECT_EQ(r.advantage, -1.5);
  EXPECT_TRUE(r.in_loss);
  EXPECT_EQ(r.policy_version, 8);
}

TEST_F(GrpoMetricsTest, HeadlineNamesItsNumbers) {
  const std::string text = headline({{"critic/rewards/mean", 0.5}, {"critic/acc/mean", 0.25}});
  EXPECT_NE(text.find("reward 0.500"), std::string::npos) << text;
  EXPECT_NE(text.find("acc 25.0 %"), std::string::npos) << text;
}

}  // namespace
}  // namespace moerl::testing
