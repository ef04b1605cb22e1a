#include "experiments/tasks/jsonl_rows.h"

#include <gtest/gtest.h>

#include "reward/verifier_registry.h"
#include "testing/paths.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

class JsonlRowsTest : public ::testing::Test {
 protected:
  JsonlRowsTest() {
    config_.name = "jsonl";
    config_.train_files = {"train.jsonl"};
  }
  TaskData read(const std::string& train) {
    directory_.write("train.jsonl", train);
    return read_jsonl_task(config_, directory_.path());
  }
  /// The error for a file whose first line is blank and whose second is `row`.
  std::string error_for(const std::string& row) {
    return error_of<IoError>([&] { read("\n" + row + "\n"); });
  }
  TemporaryDirectory directory_;
  TaskConfig config_;
};

TEST_F(JsonlRowsTest, VerlRowsWithTextPrompts) {
  config_.instruction = "Think first.";
  const TaskData task = read(
      R"({"data_source":"a","prompt":"1+1?","reward_model":{"style":"rule","ground_truth":"2"},"extra_info":{"index":3}})"
      "\n"
      R"({"data_source":"b","prompt":"ä?","reward_model":{"ground_truth":{"target":5}},"extra_info":null,"more":[1]})");
  ASSERT_EQ(task.train.size(), 2u);
  EXPECT_EQ(task.train[0].data_source, "a");
  EXPECT_EQ(task.train[0].prompt, "1+1?\nThink first.");
  EXPECT_EQ(task.train[0].ground_truth, "2");
  EXPECT_EQ(task.train[0].extra_info_json, "{\"index\":3}");
  EXPECT_EQ(task.train[1].prompt, "ä?\nThink first.");
  EXPECT_EQ(task.train[1].ground_truth, "{\"target\":5}");
  EXPECT_EQ(task.train[1].extra_info_json, "");
  EXPECT_EQ(task.verifier, "exact_match");
  EXPECT_TRUE(task.demonstrations.empty());
}

TEST_F(JsonlRowsTest, VerlRowsWithChatPrompts) {
  config_.chat_template = "deepseek_v3";
  config_.instruction = "Be brief.";
  const TaskData task = read(
      R"({"data_source":"a","prompt":[{"role":"system","content":"S"},{"role":"user","content":"Q"}],"reward_model":{"ground_truth":"x"}})"
      "\r\n\n");
  ASSERT_EQ(task.train.size(), 1u);
  EXPECT_EQ(task.train[0].prompt, "<｜begin▁of▁sentence｜>S<｜User｜>Q\nBe brief.<｜Assistant｜>");
}

TEST_F(JsonlRowsTest, Gsm8kRows) {
  config_.row_format = "gsm8k";
  config_.val_files = {"val.jsonl"};
  directory_.write("val.jsonl", R"({"question":"Q2","answer":"It is #### 1,000"})"
                                "\n");
  const TaskData task = read(R"({"question":"Q1","answer":"3*4=<<3*4=12>>12\n#### 12"})");
  ASSERT_EQ(task.train.size(), 1u);
  EXPECT_EQ(task.train[0].prompt, "Q1");
  EXPECT_EQ(task.train[0].ground_truth, "12");
  EXPECT_EQ(task.train[0].data_source, "gsm8k");
  ASSERT_EQ(task.demonstrations.size(), 1u);  // none of the held-out rows
  EXPECT_EQ(task.demonstrations[0].prompt, "Q1");
  EXPECT_EQ(task.demonstrations[0].completion, "3*4=<<3*4=12>>12\n#### 12");
  ASSERT_EQ(task.val.size(), 1u);
  EXPECT_EQ(task.val[0].ground_truth, "1,000");
  EXPECT_EQ(task.verifier, "gsm8k");
}

TEST_F(JsonlRowsTest, DemonstrationsComeFromTheirOwnFiles) {
  config_.chat_template = "plain";
  config_.demonstration_files = {"demo.jsonl"};
  directory_.write("demo.jsonl", R"({"prompt":"P","completion":"C"})"
                                 "\n");
  const TaskData task =
      read(R"({"data_source":"a","prompt":"P","reward_model":{"ground_truth":"x"}})");
  ASSERT_EQ(task.demonstrations.size(), 1u);
  EXPECT_EQ(task.demonstrations[0].prompt, task.train[0].prompt);
  EXPECT_EQ(task.demonstrations[0].completion, "C");
}

TEST_F(JsonlRowsTest, LimitsCountRowsOverAllFiles) {
  config_.row_format = "gsm8k";
  config_.train_files = {"train.jsonl", "more.jsonl"};
  config_.max_train_rows = 3;
  const std::string row = R"({"question":"Q","answer":"#### 1"})"
                          "\n";
  directory_.write("more.jsonl", row + row + row);
  EXPECT_EQ(read(row + row).train.size(), 3u);
  config_.max_train_rows = 1;
  EXPECT_EQ(read(row + row).train.size(), 1u);
  config_.max_train_rows = 0;
  EXPECT_EQ(read(row + row).train.size(), 5u);
}

TEST_F(JsonlRowsTest, BadVerlRowsNameFileAndLine) {
  const std::string where = "train.jsonl:2: ";
  const std::pair<const char*, const char*> cases[] = {
      {"{\"data_source\":", "expected a JSON object"},
      {"[1, 2]", "expected a JSON object"},
      {R"({"prompt":"x","reward_model":{"ground_truth":"1"}})", "'data_source'"},
      {R"({"data_source":5,"prompt":"x","reward_model":{"ground_truth":"1"}})", "'data_source'"},
      {R"({"data_source":"a","prompt":"x"})", "reward_model.ground_truth"},
      {R"({"data_source":"a","prompt":"x","reward_model":"1"})", "reward_model.ground_truth"},
      {R"({"data_source":"a","reward_model":{"ground_truth":"1"}})", "prompt"},
      {R"({"data_source":"a","prompt":[],"reward_model":{"ground_truth":"1"}})", "prompt"},
      {R"({"data_source":"a","prompt":7,"reward_model":{"ground_truth":"1"}})", "prompt"},
      {R"({"data_source":"a","prompt":["x"],"reward_model":{"ground_truth":"1"}})", "'role'"},
      {R"({"data_source":"a","prompt":[{"role":"user"}],"reward_model":{"ground_truth":"1"}})",
       "'content'"},
      {R"({"data_source":"a","prompt":[{"role":"system","content":"no user"}],"reward_model":{"ground_truth":"1"}})",
       "template"}};
  for (const auto& [row, part] : cases) {
    const std::string error = error_for(row);
    EXPECT_NE(error.find(where), std::string::npos) << row << " gave: " << error;
    EXPECT_NE(error.find(part), std::string::npos) << row << " gave: " << error;
  }
}

TEST_F(JsonlRowsTest, BadGsm8kRowsNameFileAndLine) {
  config_.row_format = "gsm8k";
  for (const char* row :
       {R"({"question":"Q","answer":"12"})", R"({"question":"Q","answer":"####"})",
        R"({"question":"Q"})", R"({"answer":"#### 1"})"})
    EXPECT_NE(error_for(row).find("train.jsonl:2: "), std::string::npos) << row;
}

TEST_F(JsonlRowsTest, MissingFilesAndUnknownTemplatesAreNamed) {
  EXPECT_NE(
      error_of<IoError>([&] { read_jsonl_task(config_, directory_.path()); }).find("train.jsonl"),
      std::string::npos);
  config_.chat_template = "llama";
  EXPECT_NE(error_of<ConfigError>([&] { read(""); }).find("llama"), std::string::npos);
}

TEST_F(JsonlRowsTest, PublishedGsm8kRowsAreReadAndTheirSolutionsAreRight) {
  const std::filesystem::path file =
      std::filesystem::path(MOERL_SOURCE_DIR) / "../shared/data/gsm8k/gsm8k_train.jsonl";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is absent";
  config_.row_format = "gsm8k";
  config_.train_files = {file.string()};
  const TaskData task = read_jsonl_task(config_, directory_.path());
  ASSERT_EQ(task.train.size(), 7473u);
  ASSERT_EQ(task.demonstrations.size(), task.train.size());
  const auto verifier = reward::make_verifier_registry()->get(task.verifier);
  for (size_t i = 0; i < task.train.size(); ++i) {
    const reward::Verdict verdict = verifier->score(
        {task.demonstrations[i].completion, task.train[i].ground_truth, "", "gsm8k", ""}, {}, {});
    EXPECT_EQ(verdict.status, reward::VerdictStatus::kCorrect)
        << task.demonstrations[i].completion << verdict.detail;
  }
}

}  // namespace
}  // namespace moerl::testing
