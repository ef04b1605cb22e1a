#include "reward/judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "common/error.h"
#include "common/json.h"

namespace moerl::reward {
namespace {

using nlohmann::json;

struct Judged {
  JudgeSummary summary;
  std::string text;
  std::vector<json> rows;
};

Judged judge_text(const std::string& input, const JudgeConfig& config) {
  std::istringstream in(input);
  std::ostringstream out;
  Judged judged;
  judged.summary = judge(make_verifier_registry(), config, in, "file.jsonl", out);
  judged.text = out.str();
  std::istringstream lines(judged.text);
  for (std::string line; std::getline(lines, line);) judged.rows.push_back(parse_json(line));
  return judged;
}

TEST(JudgeTest, PrintsEachRowBackWithItsVerdict) {
  const Judged judged = judge_text(
      R"({"id": 5, "response": "<answer>(1+2)*3</answer>", "ground_truth": {"numbers": [1,2,3], "target": 9}})"
      "\n\n"
      R"({"response": "<answer>1+2</answer>", "ground_truth": "9", "extra_info": {"numbers": [1,2,3]}})"
      "\n"
      R"({"response": "?", "ground_truth": "x"})",
      {.verifier = "countdown"});
  ASSERT_EQ(judged.rows.size(), 3u);
  EXPECT_EQ(judged.text.substr(0, judged.text.find('\n')),
            R"({"id":5,"response":"<answer>(1+2)*3</answer>",)"
            R"("ground_truth":{"numbers":[1,2,3],"target":9},"score":1.1,"status":"correct",)"
            R"("extracted":"(1+2)*3","accuracy":1.0,"format":1.0})");
  EXPECT_EQ(judged.rows[1]["status"], "incorrect");
  EXPECT_EQ(judged.rows[1]["score"], 0.1);
  EXPECT_EQ(judged.rows[1]["detail"], "number 3 is used less often than given");
  EXPECT_EQ(judged.rows[2]["status"], "gold_error");
  EXPECT_EQ(judged.summary.num_rows, 3u);
  // The unscorable row is no zero.
  EXPECT_DOUBLE_EQ(judged.summary.mean_score, 0.6);
  EXPECT_EQ(to_string(judged.summary),
            "3 rows, mean score 0.6, correct 1, incorrect 1, gold_error 1");
}

TEST(JudgeTest, KeepsTheOrderOverManyThreads) {
  std::string input;
  for (int i = 0; i < 3000; ++i)
    input += json{{"response", "#### " + std::to_string(i)}, {"ground_truth", i - i % 2}, {"i", i}}
                 .dump() +
             "\n";
  const Judged judged = judge_text(input, {.verifier = "gsm8k", .num_threads = 4});
  ASSERT_EQ(judged.rows.size(), 3000u);
  for (int i = 0; i < 3000; ++i) {
    EXPECT_EQ(judged.rows[i]["i"], i);
    EXPECT_EQ(judged.rows[i]["status"], i % 2 == 0 ? "correct" : "incorrect");
  }
  EXPECT_DOUBLE_EQ(judged.summary.mean_score, 0.5);
}

TEST(JudgeTest, HandsOptionsOn) {
  const Judged judged =
      judge_text(R"({"response": "<think>a</think>b"})",
                 {.verifier = "format", .options = {{"rule", "think_then_text"}}});
  EXPECT_EQ(judged.rows.at(0)["score"], 1.0);
  EXPECT_THROW(judge_text("", {.verifier = "nothing"}), std::invalid_argument);
  EXPECT_THROW(judge_text("", {.verifier = "format", .options = {{"x", "y"}}}),
               std::invalid_argument);
}

TEST(JudgeTest, NamesTheLineThatIsMalformed) {
  const std::string good = "{\"response\": \"#### 1\", \"ground_truth\": \"1\"}\n";
  const std::pair<std::string, std::string> cases[] = {
      {"{oops", "file.jsonl:3: not JSON"},
      {"[1]", "file.jsonl:3: the line is a JSON array, expected an object"},
      {"{\"a\": 1}", "file.jsonl:3: there is no key 'response'"},
      {"{\"response\": 1}", "file.jsonl:3: response is a JSON number, expected a string"},
      {"{\"response\": \"\", \"extra_info\": 1}",
       "file.jsonl:3: extra_info is a JSON number, expected an object"}};
  for (const auto& [line, expected] : cases) {
    std::istringstream in(good + "\n" + line + "\n" + good);
    std::ostringstream out;
    try {
      judge(make_verifier_registry(), {.verifier = "gsm8k"}, in, "file.jsonl", out);
      ADD_FAILURE() << line;
    } catch (const IoError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(expected)) << error.what();
    }
    // What came before it is not lost.
    EXPECT_NE(out.str().find("\"status\":\"correct\""), std::string::npos);
  }
}

TEST(JudgeTest, ReplacesAnOlderVerdict) {
  const Judged judged =
      judge_text(R"({"score": 9, "status": "?", "response": "#### 2", "ground_truth": 1})",
                 {.verifier = "gsm8k"});
  EXPECT_EQ(judged.rows.at(0)["score"], 0.0);
  EXPECT_EQ(judged.rows.at(0)["status"], "incorrect");
  const Judged again = judge_text(judged.text, {.verifier = "gsm8k"});
  EXPECT_EQ(again.text, judged.text);
}

TEST(JudgeTest, ReportsFilesThatCannotBeUsed) {
  std::ostringstream out;
  EXPECT_THROW(judge_file(make_verifier_registry(), {.verifier = "gsm8k"}, "/no/such/file", out),
               IoError);
  EXPECT_THROW(judge_file(make_verifier_registry(), {.verifier = "gsm8k"}, "/", out), IoError);
  std::ostringstream closed;
  closed.setstate(std::ios::badbit);
  std::istringstream in("{\"response\": \"#### 1\", \"ground_truth\": \"1\"}");
  EXPECT_THROW(judge(make_verifier_registry(), {.verifier = "gsm8k"}, in, "f", closed), IoError);
}

TEST(JudgeTest, ReadsAFile) {
  const std::string path = testing::TempDir() + "judge_test.jsonl";
  std::ofstream(path) << R"({"response": "#### 1", "ground_truth": "1"})";
  std::ostringstream out;
  EXPECT_EQ(judge_file(make_verifier_registry(), {.verifier = "gsm8k"}, path, out).num_rows, 1u);
}

TEST(JudgeTest, ComparesWithRecordedLabels) {
  std::istringstream in(R"({"response": "<answer>4</answer>", "ground_truth": "4", "label": true})"
                        "\n"
                        R"({"response": "<answer>5</answer>", "ground_truth": "4", "label": true})"
                        "\n\n"
                        R"({"response": "<answer>4</answer>", "ground_truth": "4", "label": 0.25})"
                        "\n"
                        R"({"response": "<answer>x\\ny</answer>", "ground_truth": "", "label": 0})"
                        "\n"
                        R"({"response": "", "ground_truth": "4", "label": "odd"})");
  std::ostringstream out, report;
  const JudgeSummary summary =
      judge(make_verifier_registry(), {.verifier = "exact_match", .label = "label"}, in, "f", out,
            &report);
  EXPECT_EQ(summary.num_agreeing, 1u);
  EXPECT_EQ(summary.num_disagreeing, 3u);
  EXPECT_EQ(summary.num_unlabelled, 1u);
  EXPECT_NE(to_string(summary).find("1 of 4 labels agree, 1 rows have none"), std::string::npos)
      << to_string(summary);
  const std::string table = report.str();
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4) << table;
  EXPECT_NE(table.find("\n2       true     incorrect       0        5"), std::string::npos)
      << table;
  EXPECT_NE(table.find("\n4       0.25     correct         1        4"), std::string::npos)
      << table;
  EXPECT_NE(table.find("\n5       0        gold_error"), std::string::npos) << table;
}

TEST(JudgeTest, RefusesFactsOfAnotherType) {
  for (const char* fact :
       {R"("num_tokens": 1e30)", R"("num_tokens": -5)", R"("num_tokens": 18446744073709551615)",
        R"("token_ids": [99999999999])", R"("token_ids": ["a"])", R"("token_ids": 5)",
        R"("is_correct": "yes")", R"("group": [5])", R"("group": [{"num_tokens": 0.5}])"})
    EXPECT_THROW(
        judge_text(R"({"response": "", )" + std::string(fact) + "}", {.verifier = "cosine"}),
        IoError)
        << fact;
  EXPECT_EQ(
      judge_text(
          R"({"response": "", "is_correct": true, "num_tokens": 0, "token_ids": null, "group": "a"})",
          {.verifier = "cosine"})
          .rows.at(0)["score"],
      1);
}

TEST(JudgeTest, HandsOnTheFactsOfARow) {
  const Judged judged = judge_text(
      R"({"response": "", "num_tokens": 30, "is_correct": true, "group": [{"num_tokens": 10}, {"num_tokens": 30}]})",
      {.verifier = "len"});
  EXPECT_EQ(judged.rows.at(0)["score"], -0.5);
  EXPECT_EQ(judge_text(R"({"response": "", "token_ids": [1,2,3,1,2,3]})",
                       {.verifier = "repetition", .options = {{"unit", "token_ids"}}})
                .rows.at(0)["score"],
            -0.25);
}

}  // namespace
}  // namespace moerl::reward
