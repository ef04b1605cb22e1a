#include "experiments/progress.h"

#include <gtest/gtest.h>

namespace moerl {
namespace {

TEST(FormatDurationTest, UsesTheTwoLargestUnits) {
  EXPECT_EQ(format_duration(3725), "1h02m");
  EXPECT_EQ(format_duration(65), "1m05s");
  EXPECT_EQ(format_duration(9), "9s");
  EXPECT_EQ(format_duration(0), "0s");
  EXPECT_EQ(format_duration(-3), "0s");
  EXPECT_EQ(format_duration(59.4), "59s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(3599.7), "1h00m");
  EXPECT_EQ(format_duration(360000), "100h00m");
}

TEST(ProgressTest, ElsewhereThanOnATerminalOnlyFinishedStepsAreShown) {
  ::testing::internal::CaptureStderr();
  {
    Progress progress(false);
    progress.begin_stage("grpo", 3, 10);
    progress.update("generating 1/2");
    progress.step_done(4, "reward 0.5");
    progress.note("hello");
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("generating"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find("grpo 4/10 reward 0.5"), 0u) << text;
  EXPECT_NE(text.find(" left\nhello\n"), std::string::npos) << text;
}

TEST(ProgressTest, OnATerminalTheLineIsRedrawnAndClearedInTheEnd) {
  ::testing::internal::CaptureStderr();
  {
    Progress progress(true);
    progress.begin_stage("grpo", 0, 4);
    progress.update("generating 1/2");
    progress.step_done(1, "reward 0.5");
    progress.note("hello");
    progress.update("again");
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("generating 1/2"), std::string::npos);
  EXPECT_NE(text.find("━━━━━━╌"), std::string::npos) << text;  // a quarter of 24
  EXPECT_NE(text.find("\r\033[Khello\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\033[K"));
}

}  // namespace
}  // namespace moerl
