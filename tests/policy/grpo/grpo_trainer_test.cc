#include "policy/grpo/grpo_trainer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/policy/saved_gradient.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {
namespace {

constexpr float kTemperature = 0.9f;
constexpr int64_t kMaxResponse = 40;

/// A trainer on a tiny model, whose gradient can be read.
struct Learner {
  explicit Learner(GrpoConfig config, int num_threads = 1, uint64_t seed = 7,
                   int64_t total_steps = 100, const ModelConfig& model_config = plain_config(),
                   int64_t num_shards = 1)
      : ctx(num_threads), model(make_model(ctx, model_config, DType::kF32, seed)) {
    config.optim.beta1 = 0;
    optimizer = std::make_unique<AdamW>(model->parameters(), config.optim,
                                        DataParallel(single_process(), num_shards));
    trainer = std::make_unique<GrpoTrainer>(ctx, *model, *optimizer, config, kTemperature,
                                            kMaxResponse, total_steps);
  }

  std::vector<std::vector<double>> last_gradient() const {
    return saved_gradient(*optimizer, *model);
  }
  std::vector<Tensor> weights() const {
    std::vector<Tensor> out;
    for (const Parameter* p : model->parameters()) out.push_back(p->value.clone());
    return out;
  }

  ExecContext ctx;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<AdamW> optimizer;
  std::unique_ptr<GrpoTrainer> trainer;
};

/// Every expert is chosen, so that no step of a finite difference changes the choice.
ModelConfig smooth_config() {
  ModelConfig c = plain_config();
  c.num_experts_per_tok = c.n_routed_experts;
  return c;
}

/// Log-probs and entropies of one sequence under the model's present weights.
struct TokenValues {
  std::vector<double> log_probs, entropy;
  std::vector<float> exact_log_probs;
};
TokenValues values_of(ExecContext& ctx, const Transformer& model, const TrainSequence& sequence) {
  const TrainSequence* one = &sequence;
  KvCache cache(model.config(), model.dtype(), SequencePass::num_blocks_needed({&one, 1}));
  const SequencePass pass(ctx, model, {&one, 1}, cache, {.temperature = kTemperature}, false);
  return {{pass.log_probs().begin(), pass.log_probs().end()},
          {pass.entropy().begin(), pass.entropy().end()},
          {pass.log_probs().begin(), pass.log_probs().end()}};
}

/// Three groups of two answers with log-probs of the model itself.
std::vector<GrpoSample> make_samples(ExecContext& ctx, const Transformer& model) {
  const std::pair<int64_t, int64_t> lengths[] = {{4, 6}, {4, 11}, {9, 3}, {9, 17}, {2, 1}, {2, 8}};
  const float advantages[] = {0.8f, -0.8f, -1.3f, 1.3f, 0.5f, -0.5f};
  std::vector<GrpoSample> samples;
  for (size_t i = 0; i < 6; ++i) {
    GrpoSample& s = samples.emplace_back();
    s.group = static_cast<int64_t>(i / 2);
    s.sequence.prompt = random_tokens(lengths[i].first, 61, 10 + i / 2);
    s.sequence.completion = random_tokens(lengths[i].second, 61, 30 + i);
    s.rollout_log_probs = values_of(ctx, model, s.sequence).exact_log_probs;
    s.advantage = advantages[i];
  }
  return samples;
}
/// The same with log-probs of a sampler that was somewhat different.
std::vector<GrpoSample> make_stale_samples(ExecContext& ctx, const Transformer& model) {
  std::vector<GrpoSample> samples = make_samples(ctx, model);
  Rng rng(5);
  for (GrpoSample& s : samples)
    for (float& log_prob : s.rollout_log_probs)
      log_prob += static_cast<float>(1.2 * rng.uniform() - 0.6);
  return samples;
}
/// Weights near the model's.
std::unique_ptr<Transformer> make_reference(ExecContext& ctx, const Transformer& model) {
  auto reference = std::make_unique<Transformer>(model.config(), model.dtype());
  const std::vector<const Parameter*> from = model.parameters();
  const std::vector<Parameter*> to = reference->parameters();
  for (size_t i = 0; i < from.size(); ++i) {
    const std::vector<float> noise = random_values(from[i]->value.numel(), 900 + i, -0.01f, 0.01f);
    for (size_t j = 0; j < noise.size(); ++j)
      to[i]->value.data<float>()[j] = from[i]->value.data<float>()[j] + noise[j];
  }
  reference->pack(ctx, false);
  return reference;
}

/// The loss from its definition: of each token, then of the whole batch.
double token_loss(const GrpoConfig& c, double l, double old, double ref, double entropy, double a) {
  const double r = std::exp(l - old);
  const double clipped = std::clamp(r, 1 - c.clip_ratio_low, 1 + c.clip_ratio_high);
  double loss = -std::min(a * r, a * clipped);
  if (c.clip_ratio_c > 0 && a < 0) loss = std::min(loss, -a * c.clip_ratio_c);
  if (c.use_kl_loss) {
    const double x = ref - l, k3 = std::exp(x) - 1 - x;
    const double kl = c.kl_loss_type == "kl"           ? -x
                      : c.kl_loss_type == "mse"        ? x * x / 2
                      : c.kl_loss_type == "low_var_kl" ? k3
                                                       : r * k3;
    loss += c.kl_loss_coef * kl;
  }
  return loss - c.entropy_coeff * entropy;
}
double batch_loss(const GrpoConfig& c, const std::vector<std::vector<double>>& losses) {
  double tokens = 0, all = 0, sum_of_means = 0;
  for (const std::vector<double>& sequence : losses) {
    double sum = 0;
    for (double loss : sequence) sum += loss;
    tokens += static_cast<double>(sequence.size());
    all += sum;
    sum_of_means += sum / static_cast<double>(sequence.size());
  }
  const auto sequences = static_cast<double>(losses.size());
  if (c.loss_agg_mode == "token-mean") return all / tokens;
  if (c.loss_agg_mode == "seq-mean-token-mean") return sum_of_means / sequences;
  if (c.loss_agg_mode == "seq-mean-token-sum") return all / sequences;
  return all / sequences / (c.loss_scale_factor > 0 ? c.loss_scale_factor : kMaxResponse);
}

struct GradientCase {
  std::string name;
  GrpoConfig config;
};
void PrintTo(const GradientCase& c, std::ostream* out) { *out << c.name; }

std::vector<GradientCase> gradient_cases() {
  GrpoConfig base;
  base.require_exact_rollout = false;
  base.clip_ratio_low = 0.2;
  base.clip_ratio_high = 0.3;
  base.optim.grad_clip = 0;
  base.optim.lr = 1e-4;
  std::vector<GradientCase> cases;
  const auto add = [&](const std::string& name, auto change) {
    GrpoConfig config = base;
    change(config);
    cases.push_back({name, config});
  };
  add("Clip", [](GrpoConfig&) {});
  add("DualClip", [](GrpoConfig& c) { c.clip_ratio_c = 1.35; });
  add("Entropy", [](GrpoConfig& c) { c.entropy_coeff = 0.4; });
  for (const char* type : {"kl", "mse", "low_var_kl", "unbiased_kl"})
    add(concat("Kl_", type), [&](GrpoConfig& c) {
      c.use_kl_loss = true;
      c.kl_loss_coef = 0.7;
      c.kl_loss_type = type;
    });
  add("SeqMeanTokenMean", [](GrpoConfig& c) { c.loss_agg_mode = "seq-mean-token-mean"; });
  add("SeqMeanTokenSum", [](GrpoConfig& c) { c.loss_agg_mode = "seq-mean-token-sum"; });
  add("SeqMeanTokenSumNorm", [](GrpoConfig& c) { c.loss_agg_mode = "seq-mean-token-sum-norm"; });
  add("SeqMeanTokenSumNormOwnScale", [](GrpoConfig& c) {
    c.loss_agg_mode = "seq-mean-token-sum-norm";
    c.loss_scale_factor = 13;
  });
  add("Everything", [](GrpoConfig& c) {
    c.loss_agg_mode = "seq-mean-token-mean";
    c.use_kl_loss = true;
    c.kl_loss_coef = 0.7;
    c.clip_ratio_c = 1.35;
    c.entropy_coeff = 0.4;
    c.ppo_max_token_len = 25;
    c.recompute = true;
  });
  return cases;
}

class GradientTest : public ::testing::TestWithParam<GradientCase> {};

TEST_P(GradientTest, EqualsFiniteDifferencesOfTheClosedForm) {
  const GrpoConfig& config = GetParam().config;
  Learner setup(config, 1, 7, 100, smooth_config());
  const std::vector<GrpoSample> samples = make_stale_samples(setup.ctx, *setup.model);
  std::vector<std::vector<double>> reference;
  {
    auto frozen = make_reference(setup.ctx, *setup.model);
    for (const GrpoSample& s : samples)
      reference.push_back(values_of(setup.ctx, *frozen, s.sequence).log_probs);
    if (config.use_kl_loss) setup.trainer->set_reference(std::move(frozen));
  }
  const std::vector<Tensor> before = setup.weights();
  const Metrics metrics = setup.trainer->update(samples);
  const std::vector<std::vector<double>> gradient = setup.last_gradient();

  const std::vector<Parameter*> parameters = setup.model->parameters();
  /// The loss at weights moved by `step` along those tensors of `direction` that `chosen` picks.
  const auto loss_at = [&](double step, const auto& chosen) {
    size_t g = 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      std::copy_n(before[i].data<float>(), before[i].numel(), parameters[i]->value.data<float>());
      if (parameters[i]->is_buffer) continue;
      if (chosen(g))
        for (size_t j = 0; j < gradient[g].size(); ++j)
          parameters[i]->value.data<float>()[j] += static_cast<float>(step * gradient[g][j]);
      ++g;
    }
    setup.model->pack(setup.ctx);
    std::vector<std::vector<double>> losses;
    for (size_t i = 0; i < samples.size(); ++i) {
      const TokenValues now = values_of(setup.ctx, *setup.model, samples[i].sequence);
      std::vector<double>& of_sequence = losses.emplace_back();
      for (size_t t = 0; t < now.log_probs.size(); ++t)
        of_sequence.push_back(token_loss(config, now.log_probs[t], samples[i].rollout_log_probs[t],
                                         reference[i][t], now.entropy[t], samples[i].advantage));
    }
    return batch_loss(config, losses);
  };

  EXPECT_NEAR(metrics.at("actor/loss"), loss_at(0, [](size_t) { return false; }), 1e-6);
  double all_squares = 0;
  for (const auto& [divisor, remainder] :
       std::vector<std::pair<size_t, size_t>>{{1, 0}, {2, 0}, {2, 1}, {5, 1}, {5, 3}}) {
    const auto chosen = [&](size_t g) { return g % divisor == remainder; };
    double squares = 0;
    for (size_t g = 0; g < gradient.size(); ++g)
      if (chosen(g))
        for (double x : gradient[g]) squares += x * x;
    if (divisor == 1) all_squares = squares;
    // Steps of the same length for all, short against the loss's curvature.
    const double step = 2e-3 / std::sqrt(squares);
    const double slope = (loss_at(step, chosen) - loss_at(-step, chosen)) / (2 * step);
    EXPECT_NEAR(slope / squares, 1, 0.015) << divisor << " " << remainder;
  }
  EXPECT_GT(metrics.at("actor/pg_clipfrac"), 0.1);  // the clips are really met
  EXPECT_EQ(metrics.at("actor/pg_clipfrac_lower") > 0, config.clip_ratio_c > 0);
  EXPECT_NEAR(metrics.at("actor/grad_norm"), std::sqrt(all_squares), 1e-5 * std::sqrt(all_squares));
}

INSTANTIATE_TEST_SUITE_P(Losses, GradientTest, ::testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(GrpoTrainerTest, TheSamplersOwnLogProbsAreReproducedExactly) {
  Learner setup{GrpoConfig()};
  const Metrics metrics = setup.trainer->update(make_samples(setup.ctx, *setup.model));
  EXPECT_EQ(metrics.at("training/rollout_probs_diff_max"), 0);
  EXPECT_EQ(metrics.at("training/rollout_probs_diff_mean"), 0);
  EXPECT_EQ(metrics.at("rollout_corr/k3_kl"), 0);
  EXPECT_EQ(metrics.at("actor/ppo_kl"), 0);
  EXPECT_EQ(metrics.at("actor/pg_clipfrac"), 0);
  EXPECT_GT(metrics.at("actor/grad_norm"), 0);
}

TEST(GrpoTrainerTest, OneUlpOfDifferenceStopsTheRun) {
  Learner setup{GrpoConfig()};
  std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  float& log_prob = samples[3].rollout_log_probs[7];
  log_prob = std::nextafter(log_prob, 0.0f);
  EXPECT_THROW(setup.trainer->update(samples), std::logic_error);

  GrpoConfig lenient;
  lenient.require_exact_rollout = false;
  Learner other(lenient);
  EXPECT_GT(other.trainer->update(samples).at("training/rollout_probs_diff_max"), 0);
}

TEST(GrpoTrainerTest, DifferencesToTheSamplerAreReported) {
  GrpoConfig config;
  config.require_exact_rollout = false;
  Learner setup(config);
  const std::vector<GrpoSample> samples = make_stale_samples(setup.ctx, *setup.model);
  double largest = 0, sum = 0, k3 = 0, entropy = 0, ppo_kl = 0, n = 0;
  for (const GrpoSample& s : samples) {
    const TokenValues now = values_of(setup.ctx, *setup.model, s.sequence);
    for (size_t t = 0; t < now.log_probs.size(); ++t) {
      const double old = s.rollout_log_probs[t], l = now.log_probs[t];
      largest = std::max(largest, std::abs(std::exp(l) - std::exp(old)));
      sum += std::abs(std::exp(l) - std::exp(old));
      k3 += std::exp(l - old) - 1 - (l - old);
      ppo_kl += old - l;
      entropy += now.entropy[t];
      n += 1;
    }
  }
  const Metrics metrics = setup.trainer->update(samples);
  EXPECT_NEAR(metrics.at("training/rollout_probs_diff_max"), largest, 1e-9);
  EXPECT_NEAR(metrics.at("training/rollout_probs_diff_mean"), sum / n, 1e-9);
  EXPECT_NEAR(metrics.at("rollout_corr/k3_kl"), k3 / n, 1e-7);
  EXPECT_NEAR(metrics.at("actor/ppo_kl"), ppo_kl / n, 1e-6);
  EXPECT_NEAR(metrics.at("actor/entropy"), entropy / n, 1e-6);
}

/// |a - b| / |b| over all gradients.
double relative_difference(const std::vector<std::vector<double>>& a,
                           const std::vector<std::vector<double>>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j) {
      difference += (a[i][j] - b[i][j]) * (a[i][j] - b[i][j]);
      size += b[i][j] * b[i][j];
    }
  return std::sqrt(difference / size);
}

TEST(GrpoTrainerTest, MicroBatchesDoNotChangeTheGradient) {
  for (const char* mode : {"token-mean", "seq-mean-token-mean", "seq-mean-token-sum"}) {
    GrpoConfig config;
    config.loss_agg_mode = mode;
    config.aux_loss_alpha = 0.1;
    config.entropy_coeff = 0.1;
    config.optim.grad_clip = 0;
    Learner whole(config);
    const std::vector<GrpoSample> samples = make_samples(whole.ctx, *whole.model);
    const Metrics expected = whole.trainer->update(samples);
    for (int64_t max_tokens : {1, 30}) {
      config.ppo_max_token_len = max_tokens;
      Learner split(config);
      const Metrics metrics = split.trainer->update(samples);
      EXPECT_LT(relative_difference(split.last_gradient(), whole.last_gradient()), 1e-5)
          << mode << " " << max_tokens;
      for (const char* name : {"actor/loss", "actor/pg_loss", "moe/balance_loss", "actor/entropy",
                               "moe/max_vio", "actor/grad_norm"})
        EXPECT_NEAR(metrics.at(name), expected.at(name), 1e-5 * std::abs(expected.at(name)) + 1e-8)
            << name;
      EXPECT_EQ(split.optimizer->num_steps(), 1);
    }
  }
}

TEST(GrpoTrainerTest, ShardsDoNotChangeTheGradientButForRounding) {
  for (const char* mode : {"token-mean", "seq-mean-token-mean"}) {
    GrpoConfig config;
    config.loss_agg_mode = mode;
    config.aux_loss_alpha = 0.1;
    config.entropy_coeff = 0.1;
    config.optim.grad_clip = 0;
    config.ppo_max_token_len = 30;  // some shards have several micro-batches
    Learner whole(config);
    const std::vector<GrpoSample> samples = make_samples(whole.ctx, *whole.model);
    const Metrics expected = whole.trainer->update(samples);
    for (int64_t num_shards : {2, 3, 8}) {
      Learner sharded(config, 1, 7, 100, plain_config(), num_shards);
      const Metrics metrics = sharded.trainer->update(samples);
      EXPECT_LT(relative_difference(sharded.last_gradient(), whole.last_gradient()), 1e-5)
          << mode << ", " << num_shards << " shards";
      for (const char* name : {"actor/loss", "actor/pg_loss", "moe/balance_loss", "actor/entropy",
                               "moe/max_vio", "actor/grad_norm"})
        EXPECT_NEAR(metrics.at(name), expected.at(name), 1e-5 * std::abs(expected.at(name)) + 1e-8)
            << name;
    }
  }
}

bool same_weights(const Learner& a, const Learner& b) {
  const std::vector<Tensor> wa = a.weights(), wb = b.weights();
  for (size_t i = 0; i < wa.size(); ++i)
    if (!same_bits(wa[i], wb[i])) return false;
  return true;
}

TEST(GrpoTrainerTest, MiniBatchesAreUpdatesOneAfterTheOther) {
  GrpoConfig config;
  config.optim.lr = 3e-3;
  config.ppo_mini_batch_size = 2;  // groups: the first two, then the last
  Learner at_once(config);
  const std::vector<GrpoSample> samples = make_samples(at_once.ctx, *at_once.model);
  const Metrics metrics = at_once.trainer->update(samples);
  EXPECT_EQ(at_once.optimizer->num_steps(), 2);
  EXPECT_EQ(metrics.at("training/rollout_probs_diff_max"), 0);  // of the first update alone
  EXPECT_NE(metrics.at("actor/ppo_kl"), 0);                     // of both

  config.require_exact_rollout = false;  // the second batch meets other weights than the sampler's
  Learner by_hand(config);
  by_hand.trainer->update(std::span(samples).first(4));
  EXPECT_FALSE(same_weights(at_once, by_hand));
  const Metrics second = by_hand.trainer->update(std::span(samples).subspan(4));
  EXPECT_GT(second.at("training/rollout_probs_diff_max"), 1e-4);
  EXPECT_TRUE(same_weights(at_once, by_hand));
}

TEST(GrpoTrainerTest, EpochsRepeatAllMiniBatches) {
  GrpoConfig config;
  config.optim.lr = 1e-3;
  config.ppo_mini_batch_size = 1;
  config.ppo_epochs = 2;
  Learner setup(config);
  const std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  setup.trainer->update(samples);
  EXPECT_EQ(setup.optimizer->num_steps(), 6);

  config.require_exact_rollout = false;
  Learner by_hand(config);
  for (int epoch = 0; epoch < 2; ++epoch)
    for (size_t group = 0; group < 3; ++group) {
      GrpoConfig one = config;
      one.ppo_epochs = 1;
      GrpoTrainer trainer(by_hand.ctx, *by_hand.model, *by_hand.optimizer, one, kTemperature,
                          kMaxResponse, 100);
      trainer.update(std::span(samples).subspan(2 * group, 2));
    }
  EXPECT_TRUE(same_weights(setup, by_hand));
}

TEST(GrpoTrainerTest, SamplesOutOfTheLossChangeNothing) {
  GrpoConfig config;
  config.loss_agg_mode = "seq-mean-token-mean";
  config.aux_loss_alpha = 0.01;
  config.optim.lr = 1e-3;
  Learner without(config), with(config);
  std::vector<GrpoSample> samples = make_samples(without.ctx, *without.model);
  const Metrics expected = without.trainer->update(samples);
  GrpoSample masked = samples[1];
  masked.in_loss = false;
  masked.advantage = std::nanf("");
  masked.rollout_log_probs.assign(masked.rollout_log_probs.size(), -1.0f);
  samples.insert(samples.begin() + 2, masked);
  masked.group = 9;
  samples.push_back(masked);
  EXPECT_EQ(with.trainer->update(samples), expected);
  EXPECT_TRUE(same_weights(with, without));
}

TEST(GrpoTrainerTest, WithoutAnySampleInTheLossNothingHappens) {
  Learner setup{GrpoConfig()};
  const std::vector<Tensor> before = setup.weights();
  std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  for (GrpoSample& s : samples) s.in_loss = false;
  for (const auto& [name, value] : setup.trainer->update(samples))
    EXPECT_TRUE(std::isfinite(value)) << name;
  EXPECT_EQ(setup.optimizer->num_steps(), 0);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(same_bits(before[i], setup.weights()[i]));
}

TEST(GrpoTrainerTest, ThreadsDoNotChangeABit) {
  GrpoConfig config;
  config.optim.lr = 1e-3;
  config.ppo_mini_batch_size = 1;
  config.ppo_max_token_len = 30;
  config.use_kl_loss = true;
  config.entropy_coeff = 0.01;
  Learner one(config, 1), two(config, 2);
  for (Learner* setup : {&one, &two})
    setup->trainer->set_reference(make_reference(setup->ctx, *setup->model));
  const std::vector<GrpoSample> samples = make_samples(one.ctx, *one.model);
  EXPECT_EQ(one.trainer->update(samples), two.trainer->update(samples));
  EXPECT_TRUE(same_weights(one, two));
}

TEST(GrpoTrainerTest, RaisesWhatHadAPositiveAdvantage) {
  GrpoConfig config;
  config.optim.lr = 2e-3;
  Learner setup(config);
  const std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  setup.trainer->update(samples);
  double gain = 0;
  for (const GrpoSample& s : samples) {
    const TokenValues now = values_of(setup.ctx, *setup.model, s.sequence);
    for (size_t t = 0; t < now.log_probs.size(); ++t)
      gain += s.advantage * (now.log_probs[t] - s.rollout_log_probs[t]);
  }
  EXPECT_GT(gain, 0.1);
}

TEST(GrpoTrainerTest, LearningRateFollowsTheSchedule) {
  GrpoConfig config;
  config.require_exact_rollout = false;
  config.optim.lr = 1e-3;
  config.optim.lr_warmup_steps = 2;
  config.optim.lr_scheduler_type = "linear";
  config.optim.min_lr_ratio = 0;
  Learner setup(config, 1, 7, 6);
  const std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  for (double expected : {0.5e-3, 1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3})
    EXPECT_NEAR(setup.trainer->update(samples).at("actor/lr"), expected, 1e-12);
}

TEST(GrpoTrainerTest, BadSamplesAreRefused) {
  Learner setup{GrpoConfig()};
  EXPECT_INVALID_ARGUMENT(setup.trainer->update({}), "no samples");
  std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  samples[2].rollout_log_probs.pop_back();
  EXPECT_INVALID_ARGUMENT(setup.trainer->update(samples), "3 tokens and 2 log-probs");

  GrpoConfig config;
  config.use_kl_loss = true;
  Learner kl(config);
  EXPECT_THROW(kl.trainer->update(samples), std::logic_error);
}

TEST(GrpoTrainerTest, NanStopsTheRunBeforeTheWeightsChange) {
  Learner setup{GrpoConfig()};
  std::vector<GrpoSample> samples = make_samples(setup.ctx, *setup.model);
  samples[0].advantage = std::nanf("");
  const std::vector<Tensor> before = setup.weights();
  EXPECT_THROW(setup.trainer->update(samples), NumericalError);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(same_bits(before[i], setup.weights()[i]));
}

}  // namespace
}  // namespace moerl::testing
