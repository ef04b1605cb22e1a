#include "rollout/rollout_convert.h"

#include <gtest/gtest.h>

#include <bit>

namespace moerl {
namespace {

TEST(RolloutConvertTest, RequestSurvivesTheRoundTrip) {
  const GenerateRequest request{.prompts = {{.prompt_id = ~uint64_t{0}, .token_ids = {1, 2, 3}},
                                            {.prompt_id = 0, .token_ids = {7}}},
                                .group_size = 4,
                                .sampling = {.temperature = 0.7,
                                             .top_k = 5,
                                             .top_p = 0.9,
                                             .min_p = 0.01,
                                             .max_tokens = 99,
                                             .stop_token_ids = {2, 4}},
                                .seed = ~uint64_t{1},
                                .policy_version = 12,
                                .first_sample_index = 3};
  const GenerateRequest back = from_proto(to_proto(request));
  ASSERT_EQ(back.prompts.size(), 2u);
  EXPECT_EQ(back.prompts[0].prompt_id, ~uint64_t{0});
  EXPECT_EQ(back.prompts[0].token_ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(back.prompts[1].token_ids, (std::vector<int32_t>{7}));
  EXPECT_EQ(back.group_size, 4);
  EXPECT_EQ(back.sampling.temperature, 0.7);
  EXPECT_EQ(back.sampling.top_k, 5);
  EXPECT_EQ(back.sampling.top_p, 0.9);
  EXPECT_EQ(back.sampling.min_p, 0.01);
  EXPECT_EQ(back.sampling.max_tokens, 99);
  EXPECT_EQ(back.sampling.stop_token_ids, (std::vector<int32_t>{2, 4}));
  EXPECT_EQ(back.seed, ~uint64_t{1});
  EXPECT_EQ(back.policy_version, 12);
  EXPECT_EQ(back.first_sample_index, 3);
}

TEST(RolloutConvertTest, AnUnsetTopPKeepsAllTokens) {
  EXPECT_EQ(from_proto(v1::GenerateRequest()).sampling.top_p, 1);
}

TEST(RolloutConvertTest, CompletionKeepsEveryBitOfItsLogProbs) {
  const Completion completion{.prompt_id = 9,
                              .sample_index = 2,
                              .token_ids = {5, 6},
                              .log_probs = {std::bit_cast<float>(0xBEAAAAABu), -0.0f},
                              .finish_reason = FinishReason::kStop,
                              .policy_version = 4};
  const Completion back = from_proto(to_proto(completion));
  EXPECT_EQ(back, completion);
  EXPECT_EQ(std::bit_cast<uint32_t>(back.log_probs[0]), 0xBEAAAAABu);
  EXPECT_EQ(std::bit_cast<uint32_t>(back.log_probs[1]), 0x80000000u);
}

TEST(RolloutConvertTest, RefusesMalformedCompletions) {
  v1::Completion message = to_proto(Completion{.token_ids = {1}, .log_probs = {-1}});
  message.add_token_ids(2);
  EXPECT_THROW(from_proto(message), std::invalid_argument);
  message.add_log_probs(-2);
  EXPECT_NO_THROW(from_proto(message));
  message.set_finish_reason(v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_THROW(from_proto(message), std::invalid_argument);
}

}  // namespace
}  // namespace moerl
