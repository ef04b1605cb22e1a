#include "experiments/evaluation/evaluator.h"

#include <gtest/gtest.h>

#include "tests/experiments/scored_group.h"

namespace moerl::testing {
namespace {

using Status = reward::VerdictStatus;

TEST(EvaluatorTest, AveragesOverSamplesThenProblemsOfEachSource) {
  const PromptRow a{.data_source = "a", .prompt = {}, .ground_truth = {}, .extra_info_json = {}};
  const PromptRow b{.data_source = "b", .prompt = {}, .ground_truth = {}, .extra_info_json = {}};
  const std::vector<ScoredGroup> groups = {
      group_of(
          a, {scored(Status::kCorrect, 10), scored(Status::kIncorrect, 20),
              scored(Status::kNoAnswer, 40, FinishReason::kLength), scored(Status::kCorrect, 10)}),
      group_of(b, {scored(Status::kCorrect, 1), scored(Status::kCorrect, 1),
                   scored(Status::kCorrect, 1), scored(Status::kCorrect, 1)}),
      group_of(a, {scored(Status::kIncorrect, 10), scored(Status::kGoldError, 20),
                   scored(Status::kTimeout, 10), scored(Status::kUnparsable, 40)})};
  const std::map<std::string, double> expected = {
      {"val-core/a/acc/mean@4", 0.25},        {"val-core/a/acc/best@4", 0.5},
      {"val-aux/a/response_length/mean", 20}, {"val-aux/a/response_length/clip_ratio", 0.125},
      {"val-aux/a/no_answer_ratio", 0.125},   {"val-aux/a/unscorable_ratio", 0.125},
      {"val-core/b/acc/mean@4", 1},           {"val-core/b/acc/best@4", 1},
      {"val-aux/b/response_length/mean", 1},  {"val-aux/b/response_length/clip_ratio", 0},
      {"val-aux/b/no_answer_ratio", 0},       {"val-aux/b/unscorable_ratio", 0}};
  EXPECT_EQ(validation_metrics(groups), expected);
}

TEST(EvaluatorTest, OneSampleHasNoBestOf) {
  const PromptRow a{.data_source = "a", .prompt = {}, .ground_truth = {}, .extra_info_json = {}};
  const auto metrics = validation_metrics(
      {group_of(a, {scored(Status::kCorrect, 2)}), group_of(a, {scored(Status::kIncorrect, 2)})});
  EXPECT_EQ(metrics.at("val-core/a/acc/mean@1"), 0.5);
  EXPECT_FALSE(metrics.contains("val-core/a/acc/best@1"));
}

TEST(EvaluatorTest, NoProblemsHaveNoMetrics) { EXPECT_TRUE(validation_metrics({}).empty()); }

}  // namespace
}  // namespace moerl::testing
