#include "experiments/metrics_log.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/json.h"
#include "tests/experiments/event_file.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

class MetricsLogTest : public ::testing::Test {
 protected:
  /// Steps 0 to `last`, with the step's square as a value.
  void write_steps(int64_t last) {
    MetricsLog log(directory_.path(), -1);
    for (int64_t step = 0; step <= last; ++step)
      log.add({step, step < 2 ? "sft" : "grpo", {{"square", static_cast<double>(step * step)}}});
  }
  std::vector<int64_t> steps_in_file() {
    std::vector<int64_t> steps;
    for (const StepMetrics& m : MetricsLog::read(directory_.path())) steps.push_back(m.step);
    return steps;
  }
  TemporaryDirectory directory_;
};

TEST_F(MetricsLogTest, ReadsBackWhatWasAdded) {
  write_steps(3);
  const std::vector<StepMetrics> history = MetricsLog::read(directory_.path());
  ASSERT_EQ(history.size(), 4u);
  EXPECT_EQ(history[3].step, 3);
  EXPECT_EQ(history[3].stage, "grpo");
  EXPECT_EQ(history[3].values, (std::map<std::string, double>{{"square", 9}}));
  EXPECT_EQ(history[1].stage, "sft");
}

TEST_F(MetricsLogTest, EveryLineIsAJsonObjectThatKeepsAllDigits) {
  {
    MetricsLog log(directory_.path(), -1);
    log.add({7, "grpo", {{"third", 1.0 / 3}, {"tiny", 1e-300}}});
  }
  const std::string text = directory_.read("metrics.jsonl");
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const nlohmann::json line = parse_json(text);
  EXPECT_EQ(line["training/global_step"], 7);
  EXPECT_EQ(line["stage"], "grpo");
  EXPECT_EQ(line["third"].get<double>(), 1.0 / 3);
  EXPECT_EQ(line["tiny"].get<double>(), 1e-300);
}

TEST_F(MetricsLogTest, NotFiniteBecomesNullAndNan) {
  {
    MetricsLog log(directory_.path(), -1);
    log.add({1, "grpo", {{"a", std::nan("")}, {"b", INFINITY}, {"c", 1}}});
  }
  EXPECT_NE(directory_.read("metrics.jsonl").find("\"a\":null,\"b\":null,\"c\":1.0"),
            std::string::npos);
  const MetricsLog again(directory_.path(), 1);
  EXPECT_TRUE(std::isnan(again.history().at(0).values.at("a")));
  EXPECT_EQ(again.history().at(0).values.at("c"), 1);
}

TEST_F(MetricsLogTest, ResumingRemovesLaterStepsEverywhere) {
  write_steps(6);
  MetricsLog log(directory_.path(), 3);
  EXPECT_EQ(log.history().size(), 4u);
  EXPECT_EQ(steps_in_file(), (std::vector<int64_t>{0, 1, 2, 3}));
  log.add({4, "grpo", {{"square", -1}}});
  EXPECT_EQ(steps_in_file(), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  const std::vector<Event> events =
      read_event_file(only_event_file(directory_.path() / "tensorboard"));
  ASSERT_EQ(events.size(), 6u);  // the version, then one a step
  EXPECT_EQ(events[4].step, 3);
  EXPECT_EQ(events[4].scalars.at("square"), 9.0f);
  EXPECT_EQ(events[5].step, 4);
  EXPECT_EQ(events[5].scalars.at("square"), -1.0f);
}

TEST_F(MetricsLogTest, AFreshRunStartsEmpty) {
  write_steps(2);
  const MetricsLog log(directory_.path(), -1);
  EXPECT_TRUE(log.history().empty());
  EXPECT_EQ(directory_.read("metrics.jsonl"), "");
}

TEST_F(MetricsLogTest, AHalfWrittenLastLineIsLeftOut) {
  write_steps(2);
  const std::string text = directory_.read("metrics.jsonl");
  directory_.write("metrics.jsonl", text.substr(0, text.size() - 5));
  EXPECT_EQ(steps_in_file(), (std::vector<int64_t>{0, 1}));
  {
    MetricsLog log(directory_.path(), 5);
    log.add({2, "grpo", {}});
  }
  EXPECT_EQ(steps_in_file(), (std::vector<int64_t>{0, 1, 2}));
}

TEST_F(MetricsLogTest, BadLinesAreNamed) {
  write_steps(0);
  const std::string good = directory_.read("metrics.jsonl");
  for (const std::string bad :
       {"nonsense", "[1]", "{\"stage\":\"x\"}", "{\"training/global_step\":\"one\"}",
        "{\"training/global_step\":1,\"stage\":2}"}) {
    directory_.write("metrics.jsonl", good + bad + "\n");
    EXPECT_NE(
        error_of<IoError>([&] { MetricsLog::read(directory_.path()); }).find("metrics.jsonl:2: "),
        std::string::npos)
        << bad;
  }
}

TEST_F(MetricsLogTest, NoFileIsNoHistory) {
  EXPECT_TRUE(MetricsLog::read(directory_.path()).empty());
}

TEST(TimingMetricTest, TimesAndRatesDependOnTheMachine) {
  EXPECT_TRUE(is_timing_metric("timing_s/gen"));
  EXPECT_TRUE(is_timing_metric("perf/throughput"));
  EXPECT_FALSE(is_timing_metric("actor/loss"));
}

}  // namespace
}  // namespace moerl::testing
