#include "experiments/evaluation/metrics/text_statistics.h"

#include <gtest/gtest.h>

namespace moerl::eval {
namespace {

void expect_split(std::string_view response, bool open, std::string_view thinking,
                  std::string_view answer) {
  const SplitResponse split = split_response(response, open);
  EXPECT_EQ(split.thinking, thinking) << response;
  EXPECT_EQ(split.answer, answer) << response;
}

TEST(TextStatisticsTest, ThinkingEndsWithTheLastTag) {
  expect_split("<think>a</think>b", false, "<think>a</think>", "b");
  expect_split("a</think>b", true, "a</think>", "b");
  expect_split("<think>a</think>b<think>c</think>d", false, "<think>a</think>b<think>c</think>",
               "d");
  expect_split("just text", false, "", "just text");
  expect_split("never ends", true, "never ends", "");
  expect_split("<think>never ends", false, "<think>never ends", "");
  expect_split("<think>a</think>b<think>c", false, "<think>a</think>b<think>c", "");
  expect_split("", true, "", "");
}

TEST(TextStatisticsTest, OnlyAPromptThatEndsInABlockLeavesItOpen) {
  EXPECT_TRUE(leaves_think_open("Q<think>\n"));
  EXPECT_TRUE(leaves_think_open("Use <think> </think> tags. Assistant: <think>"));
  EXPECT_FALSE(leaves_think_open("Use <think> </think> tags. Assistant:"));
  EXPECT_FALSE(leaves_think_open("Start with <think> please."));
  EXPECT_FALSE(leaves_think_open("Q"));
}

TEST(TextStatisticsTest, PhrasesCountAsWholeWordsInAnyCase) {
  const ReflectionCounts counts = count_reflections(
      "Wait, let me check. Hmm... WAIT! I waited; awaits. Let's try again. 等一下");
  EXPECT_EQ(counts.reflections, 5);
  EXPECT_EQ(counts.backtracks, 1);
  EXPECT_EQ(count_reflections("").reflections, 0);
  EXPECT_EQ(count_reflections("The waiter mistakenly waits").backtracks, 0);
}

TEST(TextStatisticsTest, LettersOfAnotherScriptAreTheMinority) {
  EXPECT_EQ(minority_script_share(""), 0);
  EXPECT_EQ(minority_script_share("1 + 1 = 2"), 0);
  EXPECT_EQ(minority_script_share("Only Latin, naïve café"), 0);
  // Eight Latin letters and one Han character, which counts as five.
  EXPECT_NEAR(minority_script_share("abcd efgh 数"), 5.0 / 13, 1e-12);
  EXPECT_NEAR(minority_script_share("abcd Привет"), 4.0 / 10, 1e-12);
  EXPECT_EQ(minority_script_share("漢字かなカナ"), 0);
  EXPECT_EQ(minority_script_share("设 $abc$ 且 \\frac12 ```code``` $$xyz$$"), 0);
  EXPECT_EQ(minority_script_share("\xff\xfe bad bytes"), 0);
}

}  // namespace
}  // namespace moerl::eval
