#include <gtest/gtest.h>

#include "reward/verifiers/exact_match.h"
#include "reward/verifiers/format.h"
#include "reward/verifiers/format_rules.h"
#include "reward/verifiers/gsm8k.h"
#include "reward/verifiers/number.h"

namespace moerl::reward {
namespace {

template <typename V>
Verdict judge_with(const std::string& response, const std::string& gold,
                   const Options& options = {}) {
  return V().score({response, gold, "", "", ""}, options, WorkBudget());
}

using S = VerdictStatus;

TEST(ExactMatchTest, ComparesTheAnswerTag) {
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer> Paris\n</answer>", "Paris").status,
            S::kCorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer>paris</answer>", "Paris").status,
            S::kIncorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer>Paris or Rome</answer>", "Paris").status,
            S::kIncorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("Paris", "Paris").status, S::kNoAnswer);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer>Paris</answer>", "Paris").score, 1);
}

TEST(ExactMatchTest, NormalisesByOption) {
  const auto judge = [](const char* answer, const Options& options) {
    return judge_with<ExactMatchVerifier>(std::string("<answer>") + answer + "</answer>",
                                          "New York", options)
        .status;
  };
  EXPECT_EQ(judge("new york", {{"casefold", "true"}}), S::kCorrect);
  EXPECT_EQ(
      judge_with<ExactMatchVerifier>("<answer>ÉCOLE</answer>", "école", {{"casefold", "true"}})
          .status,
      S::kCorrect);
  EXPECT_EQ(judge("New \n York", {{"squeeze_space", "true"}}), S::kCorrect);
  EXPECT_EQ(judge("New York.", {{"drop_punctuation", "true"}}), S::kCorrect);
  EXPECT_EQ(judge("The New York", {{"drop_articles", "true"}}), S::kCorrect);
  EXPECT_EQ(judge("There New York", {{"drop_articles", "true"}}), S::kIncorrect);
  EXPECT_EQ(judge("New  York", {}), S::kIncorrect);
}

TEST(ExactMatchTest, ExtractsByOption) {
  const Options text = {{"extraction", "text"}}, either = {{"extraction", "answer_tag_or_text"}};
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<think>x</think> 42 ", "42", text).status, S::kCorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer>42</answer>", "42", text).status,
            S::kIncorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("42", "42", either).status, S::kCorrect);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("so <answer>42</answer>", "42", either).status,
            S::kCorrect);
  EXPECT_EQ(
      judge_with<ExactMatchVerifier>(" 42", "42", {{"extraction", "text"}, {"strip", "false"}})
          .status,
      S::kIncorrect);
}

TEST(ExactMatchTest, NeverMatchesNothing) {
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer> </answer>", "x").status, S::kNoAnswer);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("<answer> </answer>", " ").status, S::kGoldError);
  EXPECT_EQ(judge_with<ExactMatchVerifier>("", "x", {{"extraction", "text"}}).status, S::kNoAnswer);
}

TEST(FormatTest, ThinkAnswerStrictIsTheWholeText) {
  const auto follows = [](const std::string& text, bool prefix = false) {
    return follows_format(FormatRule::kThinkAnswerStrict, text, prefix);
  };
  const std::string good = "<think>\na\nb\n</think>\n<answer>\nc\n</answer>";
  EXPECT_TRUE(follows(good));
  for (const std::string& bad :
       {good + "\n", good + "\nmore", " " + good, std::string(),
        std::string("<think>a</think><answer>c</answer>"),
        std::string("<think>\na\n</think>\n\n<answer>\nc\n</answer>"),
        std::string("<think>\n</think>\n<answer>\nc\n</answer>"),
        std::string("<think>\na\n</think>\n<answer>\n</answer>"),
        std::string("<think>\n<think>\n</think>\n<answer>\nc\n</answer>"),
        std::string("<answer>\nc\n</answer>\n<think>\na\n</think>"), good + good})
    EXPECT_FALSE(follows(bad)) << bad;
  EXPECT_TRUE(follows("a\n</think>\n<answer>\nc\n</answer>", true));
  EXPECT_TRUE(follows("\na\n</think>\n<answer>\nc\n</answer>", true));
  EXPECT_FALSE(follows(good, true));
}

TEST(FormatTest, ThinkAnswerAllowsSpaceBetweenBlocks) {
  const auto follows = [](const std::string& text, bool prefix = false) {
    return follows_format(FormatRule::kThinkAnswer, text, prefix);
  };
  EXPECT_TRUE(follows("<think>a</think><answer>c</answer>"));
  EXPECT_TRUE(follows("\n<think>a</think> \n <answer>c</answer>\n"));
  EXPECT_FALSE(follows("<think>a</think> so <answer>c</answer>"));
  EXPECT_FALSE(follows("<think>a<answer>c</answer></think>"));
  EXPECT_FALSE(follows("<think>a</think><answer>c</answer>."));
  EXPECT_FALSE(follows("<think>a</think></answer><answer>"));
  EXPECT_TRUE(follows(" a</think><answer>c</answer>", true));
}

TEST(FormatTest, ThinkOnlyNeedsOneOpeningTagAtTheStart) {
  const auto follows = [](const std::string& text) {
    return follows_format(FormatRule::kThinkOnly, text, false);
  };
  EXPECT_TRUE(follows("<think>a</think>"));
  EXPECT_TRUE(follows("<think>a</think>b</think>"));
  EXPECT_FALSE(follows(" <think>a</think>"));
  EXPECT_FALSE(follows("<think>a"));
  EXPECT_FALSE(follows("<think>a</think><think>"));
}

TEST(FormatTest, ThinkThenTextNeedsTextAfterTheBlock) {
  const auto follows = [](const std::string& text) {
    return follows_format(FormatRule::kThinkThenText, text, false);
  };
  EXPECT_TRUE(follows("<think>a</think>b"));
  EXPECT_FALSE(follows("<think>a</think> \n"));
  EXPECT_FALSE(follows("<think>a</think>b</think>c"));
  EXPECT_FALSE(follows("b"));
}

TEST(FormatTest, ScoresOneOrZero) {
  const Verdict good =
      judge_with<FormatVerifier>("<think>a</think>b", "", {{"rule", "think_only"}});
  EXPECT_EQ(good.status, S::kCorrect);
  EXPECT_EQ(good.score, 1);
  EXPECT_EQ(good.parts, (std::map<std::string, double>{{"format", 1}}));
  const Verdict bad = judge_with<FormatVerifier>("<think>a</think>b", "");
  EXPECT_EQ(bad.status, S::kIncorrect);
  EXPECT_EQ(bad.score, 0);
  EXPECT_THROW(FormatVerifier().check_options({{"rule", "answer"}}), std::invalid_argument);
  EXPECT_THROW(follows_format(FormatRule::kAnswer, "", false), std::invalid_argument);
}

TEST(CodeFormatTest, WantsABlockOfTheLanguageInTheAnswer) {
  const auto score = [](const std::string& answer, const Options& options = {}) {
    return judge_with<CodeFormatVerifier>(
               "<think>\na\n</think>\n<answer>\n" + answer + "\n</answer>", "", options)
        .score;
  };
  EXPECT_EQ(score("```python\nx = 1\n```"), 1);
  EXPECT_EQ(score("Here:\n```py\nx = 1\n```\nDone."), 1);
  EXPECT_EQ(score("```\nx = 1\n```"), 0);
  EXPECT_EQ(score("```python\nx = 1"), 0);
  EXPECT_EQ(score("x = 1"), 0);
  EXPECT_EQ(score("```javascript\nx = 1\n```"), 0);
  EXPECT_EQ(score("```JavaScript\nx = 1\n```", {{"language", "javascript"}}), 1);
  EXPECT_EQ(judge_with<CodeFormatVerifier>(
                "<think>\n```python\n1\n```\n</think>\n<answer>\nx\n</answer>", "")
                .score,
            0);
  EXPECT_EQ(judge_with<CodeFormatVerifier>("```python\n1\n```", "").score, 0);
  EXPECT_THROW(CodeFormatVerifier().check_options({{"language", ""}}), std::invalid_argument);
}

TEST(NumberTest, ReadsNumbersExactly) {
  const std::pair<const char*, mpq_class> cases[] = {{"18", 18},       {"18.0", 18},
                                                     {"-3", -3},       {"\u22123", -3},
                                                     {"+5", 5},        {"$1,234.50", {2469, 2}},
                                                     {"-$5", -5},      {"$-5", -5},
                                                     {".5", {1, 2}},   {"007", 7},
                                                     {"1e3", 1000},    {"2.5e-1", {1, 4}},
                                                     {"3/4", {3, 4}},  {"1,234,567", 1234567},
                                                     {"0.1", {1, 10}}, {"1234", 1234}};
  for (const auto& [text, value] : cases) {
    const auto number = scan_number(text);
    ASSERT_TRUE(number.has_value()) << text;
    EXPECT_EQ(number->size, std::string(text).size()) << text;
    EXPECT_EQ(number->value, value) << text;
  }
}

TEST(NumberTest, StopsWhereTheNumberEnds) {
  const std::pair<const char*, size_t> cases[] = {{"5.", 1},    {"1,23", 1},  {"1,2345", 1},
                                                  {"12 34", 2}, {"1e", 1},    {"3/0", 1},
                                                  {"3/", 1},    {"1.2.3", 3}, {"1,234,56", 5}};
  for (const auto& [text, size] : cases) EXPECT_EQ(scan_number(text)->size, size) << text;
  for (const char* text : {"", "-", "$", ".", "a1", ",5", "--5", " 5"})
    EXPECT_FALSE(scan_number(text).has_value()) << text;
}

TEST(NumberTest, BoundsItsWork) {
  EXPECT_FALSE(scan_number("1e9999")->value.has_value());
  EXPECT_FALSE(scan_number(std::string(300, '1'))->value.has_value());
  EXPECT_EQ(scan_number("1e999")->size, 5u);
  EXPECT_TRUE(scan_number("1e-999")->value.has_value());
}

Verdict judge_gsm8k(const std::string& response, const std::string& gold,
                    const Options& options = {}) {
  return judge_with<Gsm8kVerifier>(response, gold, options);
}

TEST(Gsm8kTest, StrictTakesTheLastMarkedNumber) {
  EXPECT_EQ(judge_gsm8k("so\n#### 72", "72").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("####72.", "72").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("#### 1\n#### 72 apples", "72").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("#### 72\n#### 1", "72").status, S::kIncorrect);
  EXPECT_EQ(judge_gsm8k("**#### $1,234.00**", "1234").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("the answer is 72", "72").status, S::kNoAnswer);
  EXPECT_EQ(judge_gsm8k("", "72").status, S::kNoAnswer);
  EXPECT_EQ(judge_gsm8k("<think>#### 72</think>", "72").status, S::kNoAnswer);
}

TEST(Gsm8kTest, DoesNotMineNumbersOutOfOtherThings) {
  for (const char* text : {"#### twelve", "#### 12:00", "#### 12x", "#### 2^3", "#### 12+0",
                           "#### 12,34", "####", "#### 1.2.3"})
    EXPECT_EQ(judge_gsm8k(text, "12").status, S::kUnparsable) << text;
}

TEST(Gsm8kTest, ComparesExactly) {
  EXPECT_EQ(judge_gsm8k("#### 18.0", "18").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("#### 18", "18.00").status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("#### 10001", "10000").status, S::kIncorrect);
  EXPECT_EQ(judge_gsm8k("#### 0.3333333333333333", "1/3").status, S::kIncorrect);
  EXPECT_EQ(judge_gsm8k("#### 9007199254740993", "9007199254740992").status, S::kIncorrect);
  EXPECT_EQ(judge_gsm8k("#### 18.01", "18", {{"tolerance", "0.01"}}).status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("#### 18.0101", "18", {{"tolerance", "0.01"}}).status, S::kIncorrect);
}

TEST(Gsm8kTest, FlexibleTakesTheLastNumber) {
  const Options flexible = {{"method", "flexible"}};
  EXPECT_EQ(judge_gsm8k("first 3, then 1,234 in all.", "1234", flexible).status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("it is $18.", "18", flexible).extracted, "$18");
  EXPECT_EQ(judge_gsm8k("it is -5 degrees", "-5", flexible).status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("10-7", "7", flexible).status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("none", "7", flexible).status, S::kNoAnswer);
}

TEST(Gsm8kTest, AnswerTagMustHoldOnlyANumber) {
  const Options tag = {{"method", "answer_tag"}};
  EXPECT_EQ(judge_gsm8k("<answer> $1,000. </answer>", "1000", tag).status, S::kCorrect);
  EXPECT_EQ(judge_gsm8k("<answer>18 or 19</answer>", "18", tag).status, S::kUnparsable);
  EXPECT_EQ(judge_gsm8k("<answer></answer>", "18", tag).status, S::kNoAnswer);
  EXPECT_EQ(judge_gsm8k("#### 18", "18", tag).status, S::kNoAnswer);
  EXPECT_EQ(judge_gsm8k("<answer>" + std::string(500, '1') + "</answer>", "18", tag).status,
            S::kLimit);
}

TEST(Gsm8kTest, ReadsAWholeSolutionAsGroundTruth) {
  EXPECT_EQ(judge_gsm8k("#### 1080", "He has 3+4.\n#### 1,080").status, S::kCorrect);
  for (const char* gold : {"", "none", "3 apples", "#### x"})
    EXPECT_EQ(judge_gsm8k("#### 3", gold).status, S::kGoldError) << gold;
}

TEST(Gsm8kTest, IsLinearInTheResponse) {
  std::string text = "1";
  for (int i = 0; i < 200'000; ++i) text += ",234";
  text += "5 ";
  text += std::string(1'000'000, '#') + std::string(1'000'000, '-');
  EXPECT_EQ(judge_gsm8k(text, "5", {{"method", "flexible"}}).status, S::kIncorrect);
  EXPECT_EQ(judge_gsm8k(text, "5").status, S::kUnparsable);
}

}  // namespace
}  // namespace moerl::reward
