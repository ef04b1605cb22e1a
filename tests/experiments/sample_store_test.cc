#include "experiments/sample_store.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

SampleRecord record(int64_t step, const std::string& stage, const std::string& split,
                    uint64_t prompt_id, int32_t sample_index) {
  SampleRecord r;
  r.step = step;
  r.stage = stage;
  r.split = split;
  r.prompt_id = prompt_id;
  r.sample_index = sample_index;
  r.data_source = "countdown";
  r.prompt = "1 + 1?";
  r.response = "it's \"2\"\nä\xF0\x9F\x98\x80";
  r.ground_truth = "{\"target\": 2}";
  r.token_ids = {5, 0, -1, std::numeric_limits<int32_t>::max()};
  r.log_probs = {-0.1f, -1e-30f, -INFINITY, 0};
  r.finish_reason = "stop";
  r.reward = 1.1;
  r.status = "correct";
  r.extracted = "2";
  r.parts = {{"accuracy", 1}, {"format", 0.5}};
  r.advantage = -0.25;
  r.in_loss = true;
  r.policy_version = 12;
  return r;
}

void expect_equal(const SampleRecord& a, const SampleRecord& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.stage, b.stage);
  EXPECT_EQ(a.split, b.split);
  EXPECT_EQ(a.prompt_id, b.prompt_id);
  EXPECT_EQ(a.sample_index, b.sample_index);
  EXPECT_EQ(a.data_source, b.data_source);
  EXPECT_EQ(a.prompt, b.prompt);
  EXPECT_EQ(a.response, b.response);
  EXPECT_EQ(a.ground_truth, b.ground_truth);
  EXPECT_EQ(a.token_ids, b.token_ids);
  EXPECT_EQ(a.log_probs, b.log_probs);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  EXPECT_TRUE(a.reward == b.reward || (std::isnan(a.reward) && std::isnan(b.reward)));
  EXPECT_EQ(a.status, b.status);
  EXPECT_EQ(a.extracted, b.extracted);
  EXPECT_EQ(a.parts, b.parts);
  EXPECT_EQ(a.advantage, b.advantage);
  EXPECT_EQ(a.in_loss, b.in_loss);
  EXPECT_EQ(a.policy_version, b.policy_version);
}

class SampleStoreTest : public ::testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path() / "samples.sqlite"; }
  TemporaryDirectory directory_;
};

TEST_F(SampleStoreTest, ReadsBackEveryField) {
  SampleRecord plain = record(1, "grpo", "train", ~uint64_t{0}, 0);
  SampleRecord other = record(1, "grpo", "train", 3, 1);
  other.token_ids.clear();
  other.log_probs.clear();
  other.parts.clear();
  other.response = std::string("a\0b", 3);
  other.in_loss = false;
  other.reward = std::nan("");  // could not be scored
  {
    SampleStore store(path(), -1);
    store.add(std::vector<SampleRecord>{plain, other});
  }
  SampleStore store(path(), 1);
  const std::vector<SampleRecord> rows = store.read("grpo", "train", true, 10);
  ASSERT_EQ(rows.size(), 2u);
  // Ids are unsigned and SQLite's integers are not: the largest id comes first.
  expect_equal(rows[0], plain);
  expect_equal(rows[1], other);
}

TEST_F(SampleStoreTest, ReadsTheFirstOrTheLastStepOfAStageAndSplit) {
  SampleStore store(path(), -1);
  for (int64_t step : {2, 4, 6})
    for (uint64_t prompt : {9, 8})
      for (int32_t index : {1, 0})
        store.add(std::vector<SampleRecord>{record(step, "grpo", "val", prompt, index)});
  store.add(std::vector<SampleRecord>{record(7, "grpo", "train", 1, 0),
                                      record(1, "cold-start", "val", 1, 0)});
  const auto keys = [&](const char* stage, const char* split, bool last, int64_t limit) {
    std::vector<std::vector<int64_t>> out;
    for (const SampleRecord& r : store.read(stage, split, last, limit))
      out.push_back({r.step, static_cast<int64_t>(r.prompt_id), r.sample_index});
    return out;
  };
  using Keys = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(keys("grpo", "val", false, 10), (Keys{{2, 8, 0}, {2, 8, 1}, {2, 9, 0}, {2, 9, 1}}));
  EXPECT_EQ(keys("grpo", "val", true, 3), (Keys{{6, 8, 0}, {6, 8, 1}, {6, 9, 0}}));
  EXPECT_EQ(keys("grpo", "train", false, 10), (Keys{{7, 1, 0}}));
  EXPECT_EQ(keys("cold-start", "val", true, 10), (Keys{{1, 1, 0}}));
  EXPECT_EQ(keys("grpo", "test", true, 10), Keys{});
}

TEST_F(SampleStoreTest, ResumingRemovesLaterSteps) {
  {
    SampleStore store(path(), -1);
    for (int64_t step = 0; step < 6; ++step)
      store.add(std::vector<SampleRecord>{record(step, "grpo", "train", 1, 0)});
  }
  {
    SampleStore store(path(), 3);
    EXPECT_EQ(store.read("grpo", "train", true, 10).at(0).step, 3);
    EXPECT_EQ(store.read("grpo", "train", false, 10).at(0).step, 0);
  }
  SampleStore store(path(), -1);
  EXPECT_TRUE(store.read("grpo", "train", true, 10).empty());
}

TEST_F(SampleStoreTest, ASecondReaderSeesCommittedRows) {
  SampleStore writer(path(), -1);
  writer.add(std::vector<SampleRecord>{record(1, "grpo", "train", 1, 0)});
  SampleStore reader(path(), 100);
  EXPECT_EQ(reader.read("grpo", "train", true, 10).size(), 1u);
}

TEST_F(SampleStoreTest, UnusableFilesAreNamed) {
  directory_.write("samples.sqlite", "this is not a database, and long enough to be read as one");
  EXPECT_NE(error_of<IoError>([&] { SampleStore(path(), -1); }).find("samples.sqlite"),
            std::string::npos);
  EXPECT_NE(error_of<IoError>([&] { SampleStore("/nonexistent/s.sqlite", -1); }).find("/nonexist"),
            std::string::npos);
}

}  // namespace
}  // namespace moerl::testing
