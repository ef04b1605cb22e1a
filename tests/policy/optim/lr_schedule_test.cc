#include "policy/optim/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moerl {
namespace {

TEST(LrScheduleTest, WarmsUpLinearlyFromTheFirstStep) {
  const OptimConfig config{.lr = 2.0, .lr_warmup_steps = 4};
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 100), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 3, 100), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 4, 100), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 99, 100), 2.0);
}

TEST(LrScheduleTest, CosineFallsToTheFloorAtTheLastStep) {
  const OptimConfig config{
      .lr = 2.0, .lr_scheduler_type = "cosine", .lr_warmup_steps = 10, .min_lr_ratio = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(config, 10, 111), 2.0);
  EXPECT_NEAR(learning_rate(config, 60, 111), 2.0 * 0.55, 1e-12);
  EXPECT_NEAR(learning_rate(config, 35, 111), 2.0 * (0.1 + 0.9 * (0.5 + std::sqrt(0.125))), 1e-12);
  EXPECT_NEAR(learning_rate(config, 110, 111), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate(config, 500, 111), 0.2, 1e-12);
}

TEST(LrScheduleTest, LinearFallsToTheFloorAtTheLastStep) {
  const OptimConfig config{.lr = 1.0, .lr_scheduler_type = "linear", .min_lr_ratio = 0};
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 11), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 5, 11), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 10, 11), 0.0);
}

TEST(LrScheduleTest, OneStepRunsAtFullRate) {
  for (const char* type : {"constant", "linear", "cosine"})
    EXPECT_DOUBLE_EQ(learning_rate({.lr = 3.0, .lr_scheduler_type = type}, 0, 1), 3.0);
}

}  // namespace
}  // namespace moerl
