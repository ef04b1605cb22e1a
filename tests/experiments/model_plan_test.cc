#include "experiments/model_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "testing/paths.h"

namespace moerl {
namespace {

using ::testing::HasSubstr;

ModelConfig published(const std::string& name) {
  const std::string path = MOERL_SOURCE_DIR "/experiments/configs/models/" + name + ".json";
  return ModelConfig::from_json(path, read_file(path));
}

TEST(ModelPlanTest, DeepSeekV3HasItsPublishedSize) {
  const ModelPlan plan = plan_model(published("deepseek-v3"));
  EXPECT_EQ(plan.main_parameters, 671026419200);  // counted from the checkpoint's headers
  EXPECT_EQ(plan.mtp_parameters, 11610068224);
  EXPECT_NEAR(static_cast<double>(plan.active_parameters), 37.55e9, 0.005e9);
  EXPECT_EQ(plan.kv_bytes_absorbed, 70272);
  EXPECT_EQ(plan.kv_bytes_expanded, 4997120);
}

TEST(ModelPlanTest, MoonlightHasItsPublishedSize) {
  const ModelConfig model = published("moonlight-16b-a3b");
  const ModelPlan plan = plan_model(model);
  // From the shapes: embedding and head, a dense layer, 26 layers of 64 + 2 experts.
  const int64_t attention = 2048 * 16 * 192 + 2048 * 576 + 512 + 512 * 16 * 256 + 2048 * 2048;
  const int64_t expert = 3 * 2048 * 1408;
  const int64_t shared = 2 * 163840 * 2048 + 2048 + 27 * (attention + 2 * 2048) + 3 * 2048 * 11264 +
                         26 * (64 * 2049 + 2 * expert);
  EXPECT_EQ(plan.main_parameters, shared + 26 * 64 * expert);
  EXPECT_EQ(plan.active_parameters, shared + 26 * 6 * expert);
  EXPECT_NEAR(static_cast<double>(plan.main_parameters), 16e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(plan.active_parameters), 3e9, 0.3e9);
  EXPECT_EQ(plan.mtp_parameters, 0);
  EXPECT_EQ(plan.kv_bytes_absorbed, 27 * 576 * 2);
}

TEST(ModelPlanTest, MemoryIsTheSumOfItsParts) {
  const ModelConfig model = published("moonlight-16b-a3b");
  const ModelPlan plan = plan_model(model);
  const int64_t n = model.num_parameters();
  EXPECT_EQ(plan.sampling(int64_t{1} << 40), 2 * n + (int64_t{1} << 40));
  EXPECT_EQ(plan.training(), 20 * n);
  EXPECT_EQ(plan.recomputed_per_token, 27 * 2048 * 2);
  EXPECT_GT(plan.activations_per_token, 10 * plan.recomputed_per_token);
}

TEST(ModelPlanTest, VerdictSaysWhatDoesNotFit) {
  const ModelConfig model = published("moonlight-16b-a3b");
  const ModelPlan plan = plan_model(model);
  constexpr int64_t kGiB = int64_t{1} << 30;
  EXPECT_THAT(
      describe_plan(published("deepseek-v3"), 24 * kGiB),
      ::testing::AllOf(HasSubstr("671,026,419,200"), HasSubstr("70,272 bytes"),
                       HasSubstr("4,997,120 bytes"), HasSubstr("verdict: sampling does not fit"),
                       HasSubstr("; training does not fit")));
  EXPECT_THAT(describe_plan(model, plan.sampling(0) + kGiB),
              HasSubstr("verdict: sampling fits; training does not fit"));
  EXPECT_THAT(describe_plan(model, plan.training() + 2 * kGiB), HasSubstr("training does not fit"));
  EXPECT_THAT(describe_plan(model, plan.training() + 2 * kGiB),
              HasSubstr(", with recompute: true it does"));
  EXPECT_THAT(describe_plan(model, 10 * plan.training()),
              HasSubstr("verdict: sampling fits; training fits\n"));
}

}  // namespace
}  // namespace moerl
