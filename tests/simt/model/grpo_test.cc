// Steps of GRPO on Device::kCuda on what it has sampled itself, beside the CPU on the same samples.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/backend.h"
#include "policy/grpo/group_advantage.h"
#include "policy/grpo/grpo_trainer.h"
#include "tests/policy/saved_gradient.h"
#include "tests/rollout/tiny_model.h"
#include "tests/simt/orders.h"

namespace moerl::testing {
namespace {

constexpr int64_t kMaxTokens = 14, kSteps = 3;

GrpoConfig grpo_config(bool exact) {
  GrpoConfig config;
  config.require_exact_rollout = exact;
  config.entropy_coeff = 0.1;  // or the loss would hardly depend on the model
  config.ppo_max_token_len = 120;
  config.optim.beta1 = 0;  // for saved_gradient
  config.optim.grad_clip = 0;
  config.optim.lr = 0.01;
  return config;
}

/// A model on a device, and what trains it.
struct Learner {
  Learner(Precision precision, Device device)
      : tiny(precision, "absorbed", 1, 3, device),
        optimizer((tiny.model.enable_gradients(), tiny.model.parameters()),
                  grpo_config(true).optim),
        trainer(tiny.ctx, tiny.model, optimizer, grpo_config(device == Device::kCuda), 1.0f,
                kMaxTokens, kSteps) {}
  void take_weights(const Learner& from) {
    const Transformer& source = from.tiny.model;
    for (size_t i = 0; i < tiny.model.parameters().size(); ++i)
      tiny.model.parameters()[i]->value.copy_from(
          source.parameters()[i]->value.to(tiny.ctx.device()));
    tiny.model.pack(tiny.ctx);
  }
  std::vector<std::vector<double>> gradient() const {
    return saved_gradient(optimizer, tiny.model);
  }
  TinyModel tiny;
  AdamW optimizer;
  GrpoTrainer trainer;
};

/// Groups of answers that the model draws; who draws more different tokens gets more.
std::vector<GrpoSample> sample(Learner& learner, uint64_t seed) {
  GenerateRequest request = tiny_request(3, 4, kMaxTokens);
  request.seed = seed;
  Engine engine(learner.tiny.model, tiny_engine_config(), learner.tiny.ctx);
  const CompletionMap completions = generate(engine, request);
  std::vector<GrpoSample> samples;
  for (const TokenizedPrompt& prompt : request.prompts) {
    std::vector<double> rewards;
    for (int64_t i = 0; i < request.group_size; ++i) {
      const Completion& c = completions.at({prompt.prompt_id, i});
      rewards.push_back(
          static_cast<double>(std::set(c.token_ids.begin(), c.token_ids.end()).size()));
      samples.push_back({.sequence = {.prompt = prompt.token_ids, .completion = c.token_ids},
                         .rollout_log_probs = c.log_probs,
                         .group = static_cast<int64_t>(prompt.prompt_id)});
    }
    const std::vector<float> advantages = group_advantages(rewards, "grpo", true);
    for (size_t i = 0; i < advantages.size(); ++i)
      samples[samples.size() - advantages.size() + i].advantage = advantages[i];
  }
  return samples;
}

double norm(const std::vector<std::vector<double>>& gradient) {
  double sum = 0;
  for (const std::vector<double>& tensor : gradient)
    for (double x : tensor) sum += x * x;
  return std::sqrt(sum);
}
std::vector<std::vector<double>> minus(std::vector<std::vector<double>> a,
                                       const std::vector<std::vector<double>>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j) a[i][j] -= b[i][j];
  return a;
}

class GrpoOnDeviceTest : public ::testing::TestWithParam<Precision> {};
INSTANTIATE_TEST_SUITE_P(All, GrpoOnDeviceTest,
                         ::testing::Values(DType::kF32, DType::kBF16, Precision::fp8()),
                         [](const auto& info) { return std::string(info.param.name()); });

// The device's trainer insists on the sampler's bits. The CPU's sums have another order, but in
// fp32: a value may round to the neighbouring bf16, 2^-8 away, in each of the two layers. The
// emulator's tensor cores round each product of 16 once, which is nearly as good as the CPU; a
// GPU's cut off.
TEST_P(GrpoOnDeviceTest, LossAndGradientsAgreeWithTheCpu) {
  if (IsSkipped()) return;  // no GPU
  set_run_order(run_orders().back());
  Learner device(GetParam(), Device::kCuda), cpu(GetParam(), Device::kCpu);
  const bool same = GetParam() == Precision(DType::kF32);
  const double tolerance = same ? 0 : kernels::device_memory().is_emulated ? 1e-5 : 0.02;
  for (uint64_t step = 1; step <= kSteps; ++step) {
    cpu.take_weights(device);
    const std::vector<GrpoSample> samples = sample(device, step);
    Metrics a = device.trainer.update(samples), b = cpu.trainer.update(samples);
    EXPECT_EQ(a["training/rollout_probs_diff_max"], 0);
    for (const char* name : {"actor/loss", "actor/entropy", "actor/grad_norm"})
      EXPECT_NEAR(a[name], b[name], tolerance * std::abs(b[name])) << name << ", step " << step;
    const auto expected = cpu.gradient();
    EXPECT_GT(norm(expected), 0);
    EXPECT_LE(norm(minus(device.gradient(), expected)), tolerance * norm(expected))
        << "step " << step;
  }
}

}  // namespace
}  // namespace moerl::testing
