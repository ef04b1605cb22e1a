#include "policy/sft/sft_trainer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "policy/safetensors.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {
namespace {

SftConfig plain_sft() {
  SftConfig config;
  config.aux_loss_alpha = 0;
  config.router_bias_update_rate = 0;
  config.optim.lr = 3e-3;
  return config;
}

struct Learner {
  explicit Learner(const SftConfig& config, const ModelConfig& model_config = plain_config(),
                   int64_t total_steps = 50, int64_t num_shards = 1)
      : ctx(1), model(make_model(ctx, model_config, DType::kF32)) {
    optimizer = std::make_unique<AdamW>(model->parameters(), config.optim,
                                        DataParallel(single_process(), num_shards));
    trainer = std::make_unique<SftTrainer>(ctx, *model, *optimizer, config, total_steps);
  }
  /// First moments of the optimizer; with beta1 = 0 the gradient that it was given, clipped.
  std::vector<double> first_moments() const {
    const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) /
                                       concat("moerl_sft_trainer_", ::getpid(), ".safetensors");
    optimizer->save(path);
    std::vector<double> all;
    {
      const policy::SafetensorsFile file(path);
      for (const Parameter* p : model->parameters()) {
        if (p->is_buffer) continue;
        std::vector<float> values(static_cast<size_t>(p->value.numel()));
        policy::convert_to_f32(file.tensor("exp_avg." + p->name), values.data());
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    std::filesystem::remove(path);
    return all;
  }
  ExecContext ctx;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<AdamW> optimizer;
  std::unique_ptr<SftTrainer> trainer;
};

double norm_of(const std::vector<double>& values) {
  double squares = 0;
  for (double x : values) squares += x * x;
  return std::sqrt(squares);
}

class SftTrainerTest : public ::testing::Test {
 protected:
  SftTrainerTest() {
    const std::pair<int64_t, int64_t> lengths[] = {{3, 7}, {1, 4}, {12, 9}, {2, 20}};
    for (const auto& [prompt, completion] : lengths)
      sequences_.push_back({random_tokens(prompt, 61, 70 + sequences_.size()),
                            random_tokens(completion, 61, 80 + sequences_.size())});
    for (const TrainSequence& s : sequences_) batch_.push_back(&s);
  }
  /// Mean negative log-likelihood of all completion tokens, each sequence alone.
  double mean_nll(Learner& setup) const {
    double sum = 0, n = 0;
    for (const TrainSequence* s : batch_) {
      KvCache cache(setup.model->config(), DType::kF32, SequencePass::num_blocks_needed({&s, 1}));
      const SequencePass pass(setup.ctx, *setup.model, {&s, 1}, cache, {}, false);
      for (float log_prob : pass.log_probs()) sum -= log_prob;
      n += static_cast<double>(pass.log_probs().size());
    }
    return sum / n;
  }
  std::vector<TrainSequence> sequences_;
  std::vector<const TrainSequence*> batch_;
};

TEST_F(SftTrainerTest, LossIsTheMeanNegativeLogLikelihood) {
  Learner setup(plain_sft());
  const double expected = mean_nll(setup);
  EXPECT_NEAR(setup.trainer->evaluate(batch_), expected, 1e-6);
  const auto metrics = setup.trainer->update(batch_);
  EXPECT_NEAR(metrics.at("train/loss"), expected, 1e-6);
  EXPECT_EQ(metrics.at("train/tokens"), 40);
  EXPECT_NE(setup.trainer->evaluate(batch_), expected);
}

TEST_F(SftTrainerTest, MemorisesItsData) {
  SftConfig config = plain_sft();
  config.aux_loss_alpha = 1e-4;
  config.router_bias_update_rate = 1e-3;
  Learner setup(config);
  const double before = setup.trainer->evaluate(batch_);
  std::map<std::string, double> metrics;
  for (int step = 0; step < 50; ++step) metrics = setup.trainer->update(batch_);
  EXPECT_GT(before, 3);
  EXPECT_LT(setup.trainer->evaluate(batch_), 0.1 * before);
  EXPECT_GT(metrics.at("train/majority_token_frac"), 0.9);
}

TEST_F(SftTrainerTest, GradientDescendsTheLoss) {
  // d loss / d step along the gradient is its squared norm.
  SftConfig config = plain_sft();
  config.optim.beta1 = 0;
  config.optim.grad_clip = 0;
  config.optim.lr = 1e-12;
  ModelConfig smooth = plain_config();  // no step changes the choice of experts
  smooth.num_experts_per_tok = smooth.n_routed_experts;
  Learner setup(config, smooth);
  const double norm = setup.trainer->update(batch_).at("train/grad_norm");
  const std::vector<double> g = setup.first_moments();
  EXPECT_NEAR(norm_of(g), norm, 1e-5 * norm);
  const auto loss_moved = [&](double step) {
    size_t i = 0;
    for (Parameter* p : setup.model->parameters())
      if (!p->is_buffer)
        for (int64_t j = 0; j < p->value.numel(); ++j)
          p->value.data<float>()[j] += static_cast<float>(step * g[i++]);
    setup.model->pack(setup.ctx);
    return mean_nll(setup);
  };
  const double step = 2e-3 / norm;
  const double up = loss_moved(step), down = loss_moved(-2 * step);
  EXPECT_NEAR((up - down) / (2 * step), norm * norm, 0.015 * norm * norm);
}

TEST_F(SftTrainerTest, GradientIsClippedToTheNorm) {
  SftConfig config = plain_sft();
  config.optim.beta1 = 0;
  config.optim.grad_clip = 0.25;
  Learner setup(config);
  EXPECT_GT(setup.trainer->update(batch_).at("train/grad_norm"), 0.5);  // before clipping
  EXPECT_NEAR(norm_of(setup.first_moments()), 0.25, 1e-4);
}

/// Every loss, and the gradient as the optimizer's first moments.
SftConfig all_losses() {
  SftConfig config = plain_sft();
  config.optim.beta1 = 0;
  config.optim.grad_clip = 0;
  config.aux_loss_alpha = 0.1;
  config.mtp_loss_weight = 0.3;
  return config;
}

/// |a - b| / |b| of the gradients of two learners.
double gradient_distance(const Learner& a, const Learner& b) {
  std::vector<double> difference = a.first_moments();
  const std::vector<double> g = b.first_moments();
  for (size_t i = 0; i < g.size(); ++i) difference[i] -= g[i];
  return norm_of(difference) / norm_of(g);
}

TEST_F(SftTrainerTest, MicroBatchesDoNotChangeTheGradient) {
  SftConfig config = all_losses();
  Learner whole(config, tiny_config());
  const auto expected = whole.trainer->update(batch_);
  config.max_token_len = 1;
  Learner split(config, tiny_config());
  const auto metrics = split.trainer->update(batch_);
  for (const char* name : {"train/loss", "train/mtp_loss", "train/balance_loss", "train/grad_norm"})
    EXPECT_NEAR(metrics.at(name), expected.at(name), 1e-5 * expected.at(name)) << name;
  EXPECT_LT(gradient_distance(split, whole), 1e-5);
}

TEST_F(SftTrainerTest, ShardsDoNotChangeTheGradientButForRounding) {
  Learner whole(all_losses(), tiny_config());
  const auto expected = whole.trainer->update(batch_);
  for (int64_t num_shards : {2, 3}) {
    Learner sharded(all_losses(), tiny_config(), 50, num_shards);
    const auto metrics = sharded.trainer->update(batch_);
    for (const char* name : {"train/loss", "train/mtp_loss", "train/balance_loss",
                             "train/grad_norm", "train/majority_token_frac"})
      EXPECT_NEAR(metrics.at(name), expected.at(name), 1e-5 * expected.at(name)) << name;
    EXPECT_LT(gradient_distance(sharded, whole), 1e-5) << num_shards << " shards";
  }
}

TEST_F(SftTrainerTest, ExtraLossesAreMeansOverTokensAndSequences) {
  SftConfig config = plain_sft();
  config.aux_loss_alpha = 0.1;
  config.mtp_loss_weight = 0.3;
  Learner setup(config, tiny_config());
  KvCache cache(setup.model->config(), DType::kF32, SequencePass::num_blocks_needed(batch_));
  // 40 completion tokens, one of which comes second in its sequence: the module cannot see it.
  const SequencePass pass(setup.ctx, *setup.model, batch_, cache,
                          {.balance_alpha = 0.1,
                           .balance_scale = 1.0 / 4,
                           .mtp_loss_weight = 1,
                           .mtp_token_weight = 1.0 / 39},
                          true);
  const auto metrics = setup.trainer->update(batch_);
  EXPECT_NEAR(metrics.at("train/mtp_loss"), pass.mtp_loss(), 1e-6);
  EXPECT_NEAR(metrics.at("train/balance_loss"), pass.balance_loss(), 1e-6);
  EXPECT_GT(pass.mtp_loss(), 1);
  EXPECT_GT(pass.balance_loss(), 0.1);
}

TEST_F(SftTrainerTest, RouterBiasMovesAgainstTheLoad) {
  SftConfig config = plain_sft();
  config.router_bias_update_rate = 0.01;
  Learner setup(config);
  KvCache cache(setup.model->config(), DType::kF32, SequencePass::num_blocks_needed(batch_));
  const RoutingCounts counts =
      SequencePass(setup.ctx, *setup.model, batch_, cache, {}, true).routing();
  const auto biases = [&] {
    std::vector<std::vector<float>> out;
    for (const Parameter* p : setup.model->parameters())
      if (p->is_buffer) out.push_back(to_floats(p->value));
    return out;
  };
  const std::vector<std::vector<float>> before = biases();
  setup.trainer->update(batch_);
  const std::vector<std::vector<float>> after = biases();
  ASSERT_EQ(before.size(), counts.per_layer.size());
  int up = 0, down = 0;
  for (size_t layer = 0; layer < before.size(); ++layer) {
    double mean = 0;
    for (int64_t c : counts.per_layer[layer])
      mean += static_cast<double>(c) / static_cast<double>(counts.per_layer[layer].size());
    for (size_t e = 0; e < before[layer].size(); ++e) {
      const auto load = static_cast<double>(counts.per_layer[layer][e]);
      const double expected = load > mean ? -0.01 : load < mean ? 0.01 : 0;
      EXPECT_NEAR(after[layer][e] - before[layer][e], expected, 1e-7);
      up += expected > 0;
      down += expected < 0;
    }
  }
  EXPECT_GT(up, 0);
  EXPECT_GT(down, 0);
}

TEST_F(SftTrainerTest, LearningRateFollowsTheSchedule) {
  SftConfig config = plain_sft();
  config.optim.lr = 1e-3;
  config.optim.lr_warmup_steps = 2;
  config.optim.lr_scheduler_type = "cosine";
  config.optim.min_lr_ratio = 0.2;
  Learner setup(config, plain_config(), 5);
  for (double expected : {0.5e-3, 1e-3, 1e-3, 0.6e-3, 0.2e-3})
    EXPECT_NEAR(setup.trainer->update(batch_).at("train/lr"), expected, 1e-12);
}

TEST_F(SftTrainerTest, NanStopsTheRun) {
  Learner setup(plain_sft());
  for (Parameter* p : setup.model->parameters())
    if (p->name == "model.norm.weight") p->value.data<float>()[0] = std::nanf("");
  setup.model->pack(setup.ctx);
  EXPECT_THROW(setup.trainer->update(batch_), NumericalError);
}

}  // namespace
}  // namespace moerl::testing
