#include "reward/verifiers/answer_text.h"

#include <gtest/gtest.h>

namespace moerl::reward {
namespace {

TEST(GradedTextTest, IsWhatFollowsTheLastThinkBlock) {
  EXPECT_EQ(graded_text("<think>a</think>b", false), "b");
  EXPECT_EQ(graded_text("<think>a</think>b<think>c</think>d", false), "d");
  EXPECT_EQ(graded_text("a</think>b", true), "b");
}

TEST(GradedTextTest, IsTheWholeTextWithoutTags) {
  EXPECT_EQ(graded_text("plain", false), "plain");
  EXPECT_EQ(graded_text("", false), "");
}

TEST(GradedTextTest, LeavesOutABlockThatIsNotClosed) {
  EXPECT_EQ(graded_text("<think>a</think>b<think>c", false), "b");
  EXPECT_EQ(graded_text("b<think>c", false), "b");
  EXPECT_EQ(graded_text("<think>c <answer>1</answer>", false), std::nullopt);
  EXPECT_EQ(graded_text(" \n<think>c", false), std::nullopt);
}

TEST(GradedTextTest, IsNothingInsideTheBlockThatThePromptOpened) {
  EXPECT_EQ(graded_text("<answer>1</answer>", true), std::nullopt);
}

TEST(LastAnswerTest, IsTheLastPairStripped) {
  EXPECT_EQ(last_answer("<answer>1</answer><answer>\n 2 \t</answer>"), "2");
  EXPECT_EQ(last_answer("<answer>1<answer>2</answer>"), "2");
  EXPECT_EQ(last_answer("<answer>1</answer> <answer>2"), "1");
  EXPECT_EQ(last_answer("<answer></answer>"), "");
}

TEST(LastAnswerTest, IsAbsentWithoutAPair) {
  EXPECT_EQ(last_answer(""), std::nullopt);
  EXPECT_EQ(last_answer("<answer>1"), std::nullopt);
  EXPECT_EQ(last_answer("1</answer>"), std::nullopt);
  EXPECT_EQ(last_answer("</answer>1<answer>"), std::nullopt);
  EXPECT_EQ(last_answer("<Answer>1</Answer>"), std::nullopt);
}

TEST(TruncateUtf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(truncate_utf8("abc", 3), "abc");
  EXPECT_EQ(truncate_utf8("abc", 2), "ab");
  EXPECT_EQ(truncate_utf8("a\u00D7", 2), "a");
  EXPECT_EQ(truncate_utf8("\x80\x80\x80", 1), "");
}

}  // namespace
}  // namespace moerl::reward
