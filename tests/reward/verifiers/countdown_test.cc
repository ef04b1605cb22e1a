#include "reward/verifiers/countdown.h"

#include <gtest/gtest.h>

namespace moerl::reward {
namespace {

constexpr char kGold[] = R"({"numbers": [3, 7, 3, 25], "target": 24})";

Verdict judge_response(const std::string& response, const std::string& gold = kGold,
                       const Options& options = {}, const std::string& extra = "") {
  return CountdownVerifier().score({response, gold, extra, "", ""}, options, WorkBudget());
}

Verdict judge_answer(const std::string& answer, const Options& options = {}) {
  return judge_response("<think>hm</think><answer>" + answer + "</answer>", kGold, options);
}

TEST(CountdownTest, AcceptsARightExpression) {
  const Verdict verdict = judge_answer(" 25 - 7 + 3 + 3 ");
  EXPECT_EQ(verdict.status, VerdictStatus::kCorrect) << verdict.detail;
  EXPECT_EQ(verdict.extracted, "25 - 7 + 3 + 3");
  EXPECT_EQ(verdict.parts, (std::map<std::string, double>{{"accuracy", 1}, {"format", 1}}));
  EXPECT_DOUBLE_EQ(verdict.score, 1.1);
}

TEST(CountdownTest, GivesTheFormatScoreForAWrongTry) {
  for (const char* answer : {"25 - 7 + 3 - 3", "25+3-7", "25 - 1", "24", "25 - 7 + 3 + 3 + 3",
                             "25*3 - 73 - 3", "1/0", "337-25", "25/(3-3)+7"}) {
    const Verdict verdict = judge_answer(answer);
    EXPECT_EQ(verdict.status, VerdictStatus::kIncorrect) << answer;
    EXPECT_EQ(verdict.parts.at("accuracy"), 0) << answer;
    EXPECT_EQ(verdict.parts.at("format"), 1) << answer;
    EXPECT_DOUBLE_EQ(verdict.score, 0.1) << answer;
    EXPECT_FALSE(verdict.detail.empty()) << answer;
  }
}

TEST(CountdownTest, NamesTheNumberThatIsMisused) {
  EXPECT_EQ(judge_answer("25-7+3+3+3").detail, "number 3 is used more often than given");
  EXPECT_EQ(judge_answer("25-7+3").detail, "number 3 is used less often than given");
  EXPECT_EQ(judge_answer("1/0").detail, "number 0 is used more often than given");
  EXPECT_EQ(judge_answer("(25+7)/(3-3)").detail, "division by zero");
}

TEST(CountdownTest, RefusesWhatIsNoBasicArithmetic) {
  for (const char* answer : {"25 ** 1", "25//7", "2 5 - 7 + 3 + 3", "25 - 7 + 3 + 3.0", "yes",
                             "25 - 7 + 3 + 3 = 3 + 21", "\\boxed{24}", "25-7+3+3)", "25,7"}) {
    const Verdict verdict = judge_answer(answer);
    EXPECT_EQ(verdict.status, VerdictStatus::kUnparsable) << answer;
    EXPECT_EQ(verdict.score, 0) << answer;
    EXPECT_FALSE(is_unscorable(verdict));
  }
}

TEST(CountdownTest, ChecksTheNumberAfterTheEqualsSign) {
  EXPECT_EQ(judge_answer("25-7+3+3 = 24").status, VerdictStatus::kCorrect);
  EXPECT_EQ(judge_answer("25-7+3+3 = 25").status, VerdictStatus::kIncorrect);
  EXPECT_EQ(judge_answer("25-7+3+3 = 24", {{"allow_equals", "false"}}).status,
            VerdictStatus::kUnparsable);
}

TEST(CountdownTest, ReadsUnicodeOperators) {
  const std::string gold = R"({"numbers": [2, 3, 4, 4], "target": 5})";
  EXPECT_EQ(judge_response("<answer>2 \u00D7 4 \u2212 3 \u00D7 (4 \u00F7 4)</answer>",
                           R"({"numbers": [2, 4, 3, 4, 4], "target": 5})")
                .status,
            VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response("<answer>4\u00F74+2\u00D73\u22122</answer>", gold).status,
            VerdictStatus::kIncorrect);
}

TEST(CountdownTest, GradesTheLastAnswerOutsideOfThoughts) {
  const std::string right = "<answer>25-7+3+3</answer>", wrong = "<answer>25</answer>";
  EXPECT_EQ(judge_response(wrong + right).status, VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response(right + wrong).status, VerdictStatus::kIncorrect);
  EXPECT_EQ(judge_response("<think>" + right + "</think>").status, VerdictStatus::kNoAnswer);
  EXPECT_EQ(judge_response("<think>" + right).status, VerdictStatus::kNoAnswer);
  EXPECT_EQ(judge_response("<think>" + wrong + "</think>" + right).status, VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response(right, kGold, {{"prefix_open_think", "true"}}).status,
            VerdictStatus::kNoAnswer);
}

TEST(CountdownTest, ReportsAMissingAnswer) {
  for (const char* response : {"", "24", "25-7+3+3", "<answer></answer>", "<answer> \n</answer>",
                               "<answer>25-7+3+3", "25-7+3+3</answer>"})
    EXPECT_EQ(judge_response(response).status, VerdictStatus::kNoAnswer) << response;
}

TEST(CountdownTest, BoundsTheAnswer) {
  const std::string deep = std::string(100'000, '(') + "1" + std::string(100'000, ')');
  EXPECT_EQ(judge_answer(deep).status, VerdictStatus::kLimit);
  EXPECT_EQ(judge_answer(deep).extracted.size(), kMaxExtractedBytes);
  EXPECT_EQ(judge_answer(std::string(2000, '7')).status, VerdictStatus::kLimit);
  EXPECT_EQ(judge_answer(deep).score, 0);
}

TEST(CountdownTest, ComparesHugeIntegersExactly) {
  const std::string n = "9007199254740993";  // not a double
  const std::string gold = R"({"numbers": [)" + n + R"(, 1], "target": 9007199254740994})";
  EXPECT_EQ(judge_response("<answer>" + n + "+1</answer>", gold).status, VerdictStatus::kCorrect);
  const std::string big = "123456789012345678901234567890";
  EXPECT_EQ(judge_response("<answer>" + big + "-0</answer>",
                           R"({"numbers": [")" + big + R"(", 0], "target": ")" + big + R"("})")
                .status,
            VerdictStatus::kCorrect);
}

TEST(CountdownTest, TakesThePuzzleFromGroundTruthThenExtraInfo) {
  const std::string answer = "<answer>1+2</answer>";
  const std::string numbers = R"({"numbers": [1, 2], "target": 99})";
  EXPECT_EQ(judge_response(answer, "3", {}, numbers).status, VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response(answer, "\"3\"", {}, numbers).status, VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response(answer, R"({"target": 3})", {}, R"({"nums": [2, 1]})").status,
            VerdictStatus::kCorrect);
  EXPECT_EQ(judge_response(answer, "4", {}, numbers).status, VerdictStatus::kIncorrect);
}

TEST(CountdownTest, CallsAnUnusableRowUnscorable) {
  const std::string answer = "<answer>1+2</answer>";
  for (const char* gold :
       {"", "x", "{}", "[]", "3", R"({"numbers": [], "target": 3})", R"({"numbers": [1, 2]})",
        R"({"numbers": [1.5, 2], "target": 3})", R"({"numbers": [-1, 2], "target": 3})",
        R"({"numbers": "1,2", "target": 3})", R"({"numbers": [1, 2], "target": null})",
        R"({"numbers": [1, 2], "target": 3.5})", R"({"numbers": [1, 2], "target": ")"}) {
    const Verdict verdict = judge_response(answer, gold);
    EXPECT_EQ(verdict.status, VerdictStatus::kGoldError) << gold;
    EXPECT_TRUE(is_unscorable(verdict));
    EXPECT_EQ(verdict.score, 0);
    EXPECT_FALSE(verdict.detail.empty());
  }
  EXPECT_EQ(judge_response(answer, "3", {}, "no json").status, VerdictStatus::kGoldError);
}

TEST(CountdownTest, WeighsItsParts) {
  const Options options = {{"accuracy_weight", "2"}, {"format_weight", "0.5"}};
  EXPECT_DOUBLE_EQ(judge_answer("25-7+3+3", options).score, 2.5);
  EXPECT_DOUBLE_EQ(judge_answer("25", options).score, 0.5);
  EXPECT_DOUBLE_EQ(judge_answer("?", options).score, 0);
}

TEST(CountdownTest, CanAskForAShapeOfTheWholeText) {
  const Options options = {{"format_rule", "think_answer"}};
  EXPECT_DOUBLE_EQ(judge_answer("25-7+3+3", options).score, 1.1);
  EXPECT_DOUBLE_EQ(judge_answer("?", options).score, 0.1);
  EXPECT_DOUBLE_EQ(judge_response("<answer>25-7+3+3</answer>", kGold, options).score, 1);
}

TEST(CountdownTest, RefusesUnknownOptions) {
  const CountdownVerifier verifier;
  try {
    verifier.check_options({{"format_wieght", "1"}});
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "verifier 'countdown': unknown option 'format_wieght', expected one of: "
                 "accuracy_weight, format_weight, format_rule, prefix_open_think, allow_equals");
  }
  EXPECT_THROW(verifier.check_options({{"format_weight", "a"}}), std::invalid_argument);
  EXPECT_THROW(verifier.check_options({{"format_weight", "nan"}}), std::invalid_argument);
  EXPECT_THROW(verifier.check_options({{"allow_equals", "maybe"}}), std::invalid_argument);
  EXPECT_THROW(verifier.check_options({{"format_rule", "none"}}), std::invalid_argument);
  EXPECT_NO_THROW(verifier.check_options({{"format_weight", "0.2"}}));
}

}  // namespace
}  // namespace moerl::reward
