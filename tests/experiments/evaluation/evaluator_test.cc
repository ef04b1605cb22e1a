#include "experiments/evaluation/evaluator.h"

#include <gtest/gtest.h>

#include "tests/experiments/evaluation/evaluation_records.h"

namespace moerl::eval {
namespace {

using testing::record_of;
using Status = reward::VerdictStatus;

std::vector<Problem> problems_from(const std::vector<std::string>& sources) {
  std::vector<Problem> problems;
  for (const std::string& source : sources) {
    PromptRow row;
    row.data_source = source;
    problems.push_back({std::to_string(problems.size()), "", row});
  }
  return problems;
}
EvalRecord with(EvalRecord r, Status status, int64_t tokens,
                FinishReason finish = FinishReason::kStop) {
  r.status = status;
  r.response_tokens = tokens;
  r.thinking_tokens = tokens / 2;
  r.finish_reason = finish;
  return r;
}

TEST(EvaluatorTest, AveragesOverSamplesThenProblemsOfEachSource) {
  // Problems 0 and 2 are of source a; records come in any order.
  const std::vector<EvalRecord> records = {
      with(record_of(2, 1, "x"), Status::kGoldError, 20),
      with(record_of(0, 3, "x"), Status::kCorrect, 10),
      with(record_of(0, 0, "x"), Status::kCorrect, 10),
      with(record_of(0, 1, "x"), Status::kIncorrect, 20),
      with(record_of(0, 2, ""), Status::kNoAnswer, 40, FinishReason::kLength),
      with(record_of(1, 0, "x"), Status::kCorrect, 2),
      with(record_of(1, 1, "x"), Status::kCorrect, 2),
      with(record_of(1, 2, "x"), Status::kCorrect, 2),
      with(record_of(1, 3, "x"), Status::kCorrect, 2),
      with(record_of(2, 0, "x"), Status::kIncorrect, 10),
      with(record_of(2, 2, "x"), Status::kTimeout, 10),
      with(record_of(2, 3, "x"), Status::kUnparsable, 40)};
  const auto metrics = validation_metrics(problems_from({"a", "b", "a"}), records);
  const std::map<std::string, double> expected = {
      {"val-core/a/acc/mean@4", 0.25},        {"val-core/a/acc/best@4", 0.5},
      {"val-aux/a/response_length/mean", 20}, {"val-aux/a/response_length/clip_ratio", 0.125},
      {"val-aux/a/thinking_length/mean", 10}, {"val-aux/a/no_answer_ratio", 0.125},
      {"val-aux/a/unscorable_ratio", 0.125},  {"val-core/b/acc/mean@4", 1},
      {"val-core/b/acc/best@4", 1},           {"val-aux/b/acc/mean@4/low", 1},
      {"val-aux/b/acc/mean@4/std", 0},        {"val-aux/b/response_length/mean", 2},
      {"val-aux/a/acc/mean@4/low", 0},        {"val-aux/a/acc/mean@4/high", 0.5}};
  for (const auto& [name, value] : expected) EXPECT_EQ(metrics.at(name), value) << name;
}

TEST(EvaluatorTest, OneSampleHasNoBestOf) {
  const auto metrics = validation_metrics(problems_from({"a", "a"}),
                                          {record_of(0, 0, "good"), record_of(1, 0, "bad")});
  EXPECT_EQ(metrics.at("val-core/a/acc/mean@1"), 0.5);
  EXPECT_FALSE(metrics.contains("val-core/a/acc/best@1"));
  EXPECT_TRUE(validation_metrics({}, {}).empty());
}

}  // namespace
}  // namespace moerl::eval
