#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "reward/verifier_registry.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
constexpr char kPath[] = "/work/shared/data/reward_cases/format_cases.jsonl";

/// Answer-checking cases of other projects' own tests.
class RecordedCasesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kPath)) GTEST_SKIP() << kPath << " is not on this machine";
  }

  static std::vector<json> rows(const std::string& kind) {
    std::ifstream in(kPath);
    std::vector<json> rows;
    for (std::string line; std::getline(in, line);)
      if (json row = json::parse(line); row["kind"] == kind) rows.push_back(std::move(row));
    return rows;
  }
  static Verdict judge(const std::string& verifier, const std::string& response,
                       const std::string& gold, const Options& options) {
    return make_verifier_registry()->get(verifier)->score({response, gold, "", "", ""}, options,
                                                          {});
  }
};

TEST_F(RecordedCasesTest, FormatRulesAgree) {
  const std::map<std::string, std::string> rules = {
      {"think_answer_strict_newlines", "think_answer_strict"},
      {"think_only (single <think>..</think> at start, then text)", "think_only"},
      {"exactly one <think> block followed by non-empty text", "think_then_text"}};
  int num_checked = 0;
  for (const json& row : rows("format")) {
    const auto rule = rules.find(row["params"]["rule"]);
    if (rule == rules.end()) continue;
    EXPECT_EQ(judge("format", row["input"], "", {{"rule", rule->second}}).score, row["expected"])
        << row["id"];
    ++num_checked;
  }
  EXPECT_GE(num_checked, 8);
}

TEST_F(RecordedCasesTest, CountdownAgrees) {
  for (const json& row : rows("countdown")) {
    const json& input = row["input"];
    const json gold = {{"numbers", input["numbers"]}, {"target", input["target"]}};
    const std::string answer = "<answer>" + input["answer"].get<std::string>() + "</answer>";
    EXPECT_EQ(judge("countdown", answer, gold.dump(), {}).parts.at("accuracy"),
              row["expected"] == 1.0 ? 1 : 0)
        << row["id"];
  }
}

TEST_F(RecordedCasesTest, AnswerTagNumbersAgree) {
  for (const json& row : rows("answer_tag_numeric")) {
    const std::string response = row["input"]["completion"];
    // That peer takes the first answer, this project the last.
    if (count_occurrences(response, "<answer>") > 1) continue;
    char tolerance[32];
    snprintf(tolerance, sizeof tolerance, "%.9f", row["params"]["tolerance"].get<double>());
    const Verdict verdict = judge("gsm8k", response, row["input"]["gold"],
                                  {{"method", "answer_tag"}, {"tolerance", tolerance}});
    // Partial credit is for a gold number anywhere in the text; here that is no credit.
    EXPECT_EQ(verdict.score, row["expected"] == 1.0 ? 1 : 0) << row["id"] << verdict.detail;
  }
}

TEST_F(RecordedCasesTest, TextWithoutAnswerTagHasNoAnswer) {
  for (const json& row : rows("answer_tag"))
    EXPECT_EQ(last_answer(row["input"].get<std::string>()).has_value(), !row["expected"].is_null())
        << row["id"];
}

TEST_F(RecordedCasesTest, ExactTextAgrees) {
  const Options options = {{"extraction", "answer_tag_or_text"},
                           {"casefold", "true"},
                           {"squeeze_space", "true"},
                           {"drop_punctuation", "true"},
                           {"drop_articles", "true"}};
  for (const json& row : rows("text_exact"))
    EXPECT_EQ(judge("exact_match", row["input"]["completion"], row["input"]["gold"], options).score,
              row["expected"])
        << row["id"];
}

}  // namespace
}  // namespace moerl::reward
