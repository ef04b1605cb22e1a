// Against TRL: loss and gradient of GRPOTrainer._compute_loss on fixed tensors, written by
// tests/golden/trl_grpo_loss_golden.py.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "kernels/loss/policy_loss.h"
#include "policy/grpo/grpo_config.h"
#include "policy/grpo/loss_weights.h"
#include "testing/paths.h"

namespace moerl::testing {
namespace {

using nlohmann::json;

std::vector<float> flat(const json& rows) {
  std::vector<float> values;
  for (const json& row : rows)
    for (const json& value : row) values.push_back(value.get<float>());
  return values;
}

/// What policy/README.md says of TRL's names.
const std::map<std::string, std::string> kLossAggMode = {{"grpo", "seq-mean-token-mean"},
                                                         {"bnpo", "token-mean"},
                                                         {"dapo", "token-mean"},
                                                         {"dr_grpo", "seq-mean-token-sum-norm"},
                                                         {"luspo", "seq-mean-token-sum"}};

class TrlGoldenTest : public ::testing::Test {
 protected:
  TrlGoldenTest()
      : golden(parse_json(read_file(std::filesystem::path(MOERL_SOURCE_DIR) /
                                    "tests/golden/trl_grpo_loss_golden.json"))),
        log_probs(flat(golden["log_probs"])),
        old_log_probs(flat(golden["old_log_probs"])),
        ref_log_probs(flat(golden["ref_log_probs"])) {}

  /// Weights and advantages of every token.
  void expand(const std::string& loss_type) {
    std::vector<int64_t> lengths;
    for (const json& row : golden["mask"]) {
      lengths.push_back(0);
      for (const json& kept : row) lengths.back() += kept.get<int>();
    }
    const std::vector<double> per_sequence = loss_weights(
        lengths, kLossAggMode.at(loss_type), golden["max_completion_length"].get<double>());
    weights.clear();
    advantages.clear();
    for (size_t i = 0; i < lengths.size(); ++i)
      for (const json& kept : golden["mask"][i]) {
        weights.push_back(kept.get<int>() ? static_cast<float>(per_sequence[i]) : 0.0f);
        advantages.push_back(golden["advantages"][i].get<float>());
      }
  }

  json golden;
  std::vector<float> log_probs, old_log_probs, ref_log_probs, weights, advantages;
};

TEST_F(TrlGoldenTest, LossAndGradientAreTrls) {
  ASSERT_EQ(golden["cases"].size(), 30u);
  double clipped = 0, clipped_lower = 0;
  for (const json& c : golden["cases"]) {
    const std::string loss_type = c["loss_type"];
    expand(loss_type);
    kernels::PolicyLossConfig config;
    config.clip_ratio_low = c["epsilon"].get<float>();
    config.clip_ratio_high = c["epsilon_high"].get<float>();
    config.clip_ratio_c = c["delta"].is_null() ? 0.0f : c["delta"].get<float>();
    config.kl_coef = c["beta"].get<float>();
    const bool unbiased = c["use_bias_correction_kl"].get<bool>();
    if (config.kl_coef != 0) config.kl = parse_kl_type(unbiased ? "unbiased_kl" : "low_var_kl");
    std::vector<float> gradient(log_probs.size());
    const kernels::PolicyLossSums sums = policy_loss(config,
                                                     {.log_probs = log_probs,
                                                      .old_log_probs = old_log_probs,
                                                      .ref_log_probs = ref_log_probs,
                                                      .entropy = {},
                                                      .advantages = advantages,
                                                      .weights = weights},
                                                     gradient, {});
    const std::string name = concat(loss_type, " ", c["epsilon"].get<double>(), " ",
                                    c["epsilon_high"].get<double>(), " beta ", config.kl_coef);
    // fp32 holds the coefficients, the weights and each gradient: 2^-24 of relative error apiece.
    EXPECT_NEAR(sums.loss, c["loss"].get<double>(), 3e-7 * (1 + std::abs(sums.loss))) << name;
    const std::vector<float> expected = flat(c["gradient"]);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(gradient[i], expected[i], 3e-7 * (std::abs(expected[i]) + 0.1))
          << name << " " << i;
    clipped += sums.clipped;
    clipped_lower += sums.clipped_lower;
  }
  EXPECT_GT(clipped, 100);
  EXPECT_GE(clipped_lower, 10);
}

}  // namespace
}  // namespace moerl::testing
