// Rewards of shape, length, repetition and language, and question answering.
#include <gtest/gtest.h>

#include <cmath>

#include "reward/verifier_registry.h"

namespace moerl::reward {
namespace {

Verdict judge(const std::string& verifier, const Sample& sample, const Options& options = {}) {
  return make_verifier_registry()->get(verifier)->score(sample, options, {});
}
double score(const std::string& verifier, const std::string& response,
             const Options& options = {}) {
  return judge(verifier, {.response = response}, options).score;
}
Sample with_length(int64_t num_tokens, bool is_correct) {
  Sample sample;
  sample.num_tokens = num_tokens;
  sample.is_correct = is_correct;
  return sample;
}

TEST(TagCount, CountsEachTagThatStandsOnceOnALine) {
  EXPECT_EQ(score("tag_count", "<think>\na\n</think>\n<answer>\nb\n</answer>"), 1);
  EXPECT_EQ(score("tag_count", "a\n</think>\n<answer>\nb\n</answer>"), 0.75);
  EXPECT_EQ(
      score("tag_count", "a\n</think>\n<answer>\nb\n</answer>", {{"prefix_open_think", "true"}}),
      1);
  EXPECT_EQ(score("tag_count", "<think>\n<think>\na\n</think>\n"), 0.25);
  EXPECT_EQ(score("tag_count", "<think>a</think><answer>b</answer>"), 0);
}

TEST(ReasoningSteps, CountsMarksUpToTheAskedNumber) {
  EXPECT_EQ(score("reasoning_steps", "Step 1: a\nStep 12: b\nStep 3: c\nStep 4: d"), 1);
  EXPECT_DOUBLE_EQ(score("reasoning_steps", "1. a\n2. b"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(score("reasoning_steps", "see\n- a\n* b"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(score("reasoning_steps", "First, a. Finally, b", {{"num_steps", "4"}}), 0.5);
  EXPECT_EQ(score("reasoning_steps", "Step one: a 1. b - c First thing Step 3"), 0);
  EXPECT_EQ(score("reasoning_steps", ""), 0);
}

TEST(Repetition, IsTheShareOfRepeatedWords) {
  EXPECT_EQ(score("repetition", "A b C"), 0);
  EXPECT_EQ(score("repetition", "a B"), 0);
  EXPECT_DOUBLE_EQ(score("repetition", "a b c A B C"), -0.25);
  EXPECT_DOUBLE_EQ(score("repetition", "w w w w", {{"max_penalty", "-2"}}), -1);
  EXPECT_DOUBLE_EQ(score("repetition", "this is a this is a test", {{"ngram_size", "2"}}),
                   -1.0 / 3);
}

TEST(Repetition, DividesScriptsWithoutSpaces) {
  EXPECT_DOUBLE_EQ(score("repetition", "这个这个这个这个这个", {{"ngram_size", "2"}}), -0.75);
}

TEST(Repetition, ReadsTokenIds) {
  Sample sample{.response = "x"};
  sample.token_ids = {1, 2, 3, 1, 2, 3};
  EXPECT_DOUBLE_EQ(judge("repetition", sample, {{"unit", "token_ids"}}).score, -0.25);
  sample.token_ids = {};
  EXPECT_EQ(judge("repetition", sample, {{"unit", "token_ids"}}).status, VerdictStatus::kGoldError);
}

TEST(Len, RanksWithinTheGroup) {
  Sample sample = with_length(10, true);
  sample.group = {{10, 0, true}, {20, 0, false}, {30, 0, true}};
  EXPECT_EQ(judge("len", sample).score, 0.5);
  sample.num_tokens = 30;
  EXPECT_EQ(judge("len", sample).score, -0.5);
  sample.is_correct = false;
  sample.num_tokens = 10;
  EXPECT_EQ(judge("len", sample).score, 0);
  sample.num_tokens = 25;
  EXPECT_EQ(judge("len", sample).score, -0.25);
  sample.group = {{25, 0, true}, {25, 0, true}};
  EXPECT_EQ(judge("len", sample).score, 0);
}

TEST(Len, CountsCharactersByOption) {
  Sample sample{.response = "é日", .is_correct = true};
  sample.group = {{-1, 2, true}, {-1, 6, true}};
  EXPECT_EQ(judge("len", sample, {{"unit", "characters"}}).score, 0.5);
  EXPECT_EQ(judge("len", sample).status, VerdictStatus::kGoldError);
}

TEST(Len, NeedsItsGroupAndCorrectness) {
  EXPECT_EQ(judge("len", with_length(3, true)).status, VerdictStatus::kGoldError);
  Sample sample{.num_tokens = 3};
  sample.group = {{3, 0, true}};
  EXPECT_EQ(judge("len", sample).status, VerdictStatus::kGoldError);
}

TEST(Cosine, FallsForRightAnswersAndRisesForWrongOnes) {
  const Options options = {{"max_len", "100"}};
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(0, true), options).score, 1);
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(50, true), options).score, 0.75);
  EXPECT_NEAR(judge("cosine", with_length(75, true), options).score, 0.57322, 1e-5);
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(100, true), options).score, 0.5);
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(0, false), options).score, -1);
  EXPECT_NEAR(judge("cosine", with_length(25, false), options).score, -0.92678, 1e-5);
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(100, false), options).score, -0.5);
}

TEST(Cosine, StaysAtItsEndBeyondTheLongestLength) {
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(1900, true)).score, 0.5);
  EXPECT_DOUBLE_EQ(judge("cosine", with_length(1900, false)).score, -0.5);
}

TEST(SoftOverlong, FallsLinearlyInTheLastPart) {
  const Options options = {{"max_len", "100"}, {"cache_len", "20"}};
  for (const auto& [length, expected] :
       std::vector<std::pair<int64_t, double>>{{80, 0}, {85, -0.25}, {100, -1}, {150, -1}}) {
    Sample sample{.num_tokens = length};
    EXPECT_DOUBLE_EQ(judge("soft_overlong", sample, options).score, expected) << length;
  }
  EXPECT_FALSE(std::signbit(judge("soft_overlong", {.num_tokens = 1}, options).score));
  EXPECT_THROW(judge("soft_overlong", {}, {{"max_len", "5"}, {"cache_len", "6"}}),
               std::invalid_argument);
}

TEST(LanguageConsistency, IsTheShareOfWordsInTheTarget) {
  const std::string english = "First we add the numbers and then we divide the sum by two.";
  const std::string chinese = "首先我们把这些数字加起来，然后除以二。";
  EXPECT_EQ(score("language_consistency", "<think>" + english + "</think> 答案"), 1);
  EXPECT_EQ(
      score("language_consistency", "<think>" + chinese + "</think>", {{"target_language", "zh"}}),
      1);
  EXPECT_EQ(score("language_consistency", "<think>" + chinese + "</think>"), 0);
  const double mixed = score("language_consistency", "<think>" + english + chinese + "</think>");
  EXPECT_GT(mixed, 0.4);
  EXPECT_LT(mixed, 0.8);
  EXPECT_EQ(score("language_consistency", "<think>" + english + chinese + "</think>",
                  {{"threshold", "0.95"}}),
            0);
}

TEST(LanguageConsistency, TellsLanguagesOfOneScriptApart) {
  const std::string french = "D'abord nous additionnons les nombres, puis nous divisons par deux.";
  const std::string german = "Zuerst addieren wir die Zahlen und teilen dann durch zwei.";
  const std::string english = "So the number of apples that remain in the basket is seven.";
  EXPECT_EQ(score("language_consistency", "<think>" + french + "</think>"), 0);
  EXPECT_EQ(
      score("language_consistency", "<think>" + french + "</think>", {{"target_language", "fr"}}),
      1);
  const double mixed =
      score("language_consistency", "<think>" + english + " " + german + "</think>");
  EXPECT_GT(mixed, 0.4);
  EXPECT_LT(mixed, 0.7);
}

TEST(LanguageConsistency, CountsProseOnly) {
  const std::string noise =
      "设 $x = \\text{apples}$，看 https://example.com/some/english/words 和 `print(total)`，"
      "\\(a+b\\) 等于 \\frac{x}{y}，即 x 是 12345。```python\nfor word in words: pass\n```";
  EXPECT_EQ(
      score("language_consistency", "<think>" + noise + "</think>", {{"target_language", "zh"}}),
      1);
}

TEST(LanguageConsistency, WantsOneBlockOfThought) {
  EXPECT_EQ(judge("language_consistency", {.response = "no block"}).status,
            VerdictStatus::kNoAnswer);
  EXPECT_EQ(judge("language_consistency", {.response = "<think> \n </think>"}).score, 0);
  const Verdict twice =
      judge("language_consistency",
            {.response = "<think>One thought here.</think> <think>Another one here.</think>"});
  EXPECT_EQ(twice.score, 0);
  EXPECT_EQ(twice.status, VerdictStatus::kUnparsable);
  EXPECT_EQ(
      score("language_consistency", "This is thought.</think>x", {{"prefix_open_think", "true"}}),
      1);
  EXPECT_EQ(score("language_consistency", "This is all of the text.", {{"scope", "response"}}), 1);
  EXPECT_THROW(score("language_consistency", "", {{"target_language", "xx"}}),
               std::invalid_argument);
}

TEST(LanguageConsistency, TakesAnyBytesInLinearTime) {
  for (const char* piece :
       {"\xff\xfe", "$", "`", "\\(", "<", "<think", "\\frac{", "{{{{", "http://"}) {
    std::string text = "<think>";
    while (text.size() < 1'000'000) text += piece;
    EXPECT_LE(score("language_consistency", text), 1) << piece;
  }
}

TEST(FormatThinkGraded, GivesPartOfTheRewardForATag) {
  const Options options = {{"rule", "think_graded"}};
  EXPECT_EQ(score("format", "a < THINK >b</ think > c", options), 1);
  EXPECT_EQ(score("format", "<think> </think>", options), 0.2);
  EXPECT_EQ(score("format", "unfinished</think>", options), 0.2);
  EXPECT_EQ(score("format", "none < thin > here", options), 0);
  EXPECT_EQ(score("format", "<think>a</think>",
                  {{"rule", "think_graded"}, {"full_reward", "0.9"}, {"partial_reward", "0.3"}}),
            0.9);
  EXPECT_THROW(score("format", "", {{"partial_reward", "0.3"}}), std::invalid_argument);
}

TEST(Qa, ComparesNormalisedTexts) {
  const auto judge_qa = [](const std::string& response, const std::string& gold,
                           const Options& options = {}) {
    return judge("qa", {.response = response, .ground_truth = gold}, options);
  };
  EXPECT_EQ(judge_qa("<think>x</think><answer>The Eiffel-Tower!</answer>", "eiffeltower").status,
            VerdictStatus::kCorrect);
  EXPECT_EQ(judge_qa("so \\boxed{Paris}", R"(["London", "Paris"])").score, 1);
  EXPECT_DOUBLE_EQ(judge_qa("hello there world", "Hello, world!", {{"metric", "f1"}}).score, 0.8);
  EXPECT_EQ(judge_qa("hello there world", "Hello, world!").score, 0);
  EXPECT_DOUBLE_EQ(judge_qa("hello there world", "Hello, world!", {{"metric", "em_or_f1"}}).score,
                   0.8);
  EXPECT_EQ(
      judge_qa("one two three four five six seven world", "hello world", {{"metric", "em_or_f1"}})
          .score,
      0);
  EXPECT_EQ(judge_qa("a", "x").status, VerdictStatus::kNoAnswer);
  EXPECT_EQ(judge_qa("x", "the").status, VerdictStatus::kGoldError);
  EXPECT_EQ(judge_qa("ÉCOLE  Ünter", "école ünter").score, 1);
  // Words count as often as they occur.
  EXPECT_DOUBLE_EQ(judge_qa("x x x", "x y", {{"metric", "f1"}}).score, 0.4);
}

}  // namespace
}  // namespace moerl::reward
