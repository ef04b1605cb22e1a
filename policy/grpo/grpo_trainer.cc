#include "policy/grpo/grpo_trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "policy/grpo/loss_weights.h"
#include "policy/optim/lr_schedule.h"

namespace moerl {

/// What the micro-batches of a shard measured, and the sum over shards and updates. Travels between
/// ranks as it is.
struct GrpoTrainer::Figures {
  kernels::PolicyLossSums loss;
  double entropy_tokens = 0, entropy = 0;
  double diff_tokens = 0, diff_sum = 0, diff_max = 0;  // |p_rollout - p_train| where on policy
  double k3 = 0, balance_loss = 0;

  void add(const Figures& part) {
    loss.add(part.loss);
    entropy_tokens += part.entropy_tokens;
    entropy += part.entropy;
    diff_tokens += part.diff_tokens;
    diff_sum += part.diff_sum;
    diff_max = std::max(diff_max, part.diff_max);
    k3 += part.k3;
    balance_loss += part.balance_loss;
  }
};

struct GrpoTrainer::Sums {
  Figures figures;  // over all updates
  double grad_norm = 0, lr = 0, updates = 0;
  RoutingCounts routing;
};

namespace {

/// max over layers of (largest expert load / mean load) - 1: "MaxVio" of the aux-loss-free paper.
double max_violation(const RoutingCounts& counts) {
  double worst = 0;
  for (const std::vector<int64_t>& layer : counts.per_layer) {
    double sum = 0, largest = 0;
    for (int64_t c : layer) {
      sum += static_cast<double>(c);
      largest = std::max(largest, static_cast<double>(c));
    }
    if (sum > 0) worst = std::max(worst, largest * static_cast<double>(layer.size()) / sum - 1);
  }
  return worst;
}

std::vector<const TrainSequence*> sequences_of(std::span<const GrpoSample* const> samples) {
  std::vector<const TrainSequence*> sequences;
  for (const GrpoSample* sample : samples) sequences.push_back(&sample->sequence);
  return sequences;
}

/// Splits samples, group by group, into mini-batches of `groups` groups (0: one mini-batch).
std::vector<std::span<const GrpoSample>> split_groups(std::span<const GrpoSample> samples,
                                                      int64_t groups) {
  std::vector<std::span<const GrpoSample>> parts;
  size_t begin = 0;
  int64_t in_part = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const bool last_of_group = i + 1 == samples.size() || samples[i + 1].group != samples[i].group;
    if (last_of_group) ++in_part;
    if (i + 1 == samples.size() || (last_of_group && in_part == groups)) {
      parts.push_back(samples.subspan(begin, i + 1 - begin));
      begin = i + 1;
      in_part = 0;
    }
  }
  return parts;
}

}  // namespace

GrpoTrainer::GrpoTrainer(ExecContext& ctx, Transformer& policy, AdamW& optimizer,
                         const GrpoConfig& config, float temperature, int64_t max_response_length,
                         int64_t total_optimizer_steps)
    : ctx_(ctx),
      policy_(policy),
      optimizer_(optimizer),
      config_(config),
      temperature_(temperature > 0 ? temperature : 1.0f),
      max_response_length_(max_response_length),
      total_optimizer_steps_(total_optimizer_steps) {
  loss_config_.clip_ratio_low = static_cast<float>(config.clip_ratio_low);
  loss_config_.clip_ratio_high = static_cast<float>(config.clip_ratio_high);
  loss_config_.clip_ratio_c = static_cast<float>(config.clip_ratio_c);
  loss_config_.kl =
      config.use_kl_loss ? parse_kl_type(config.kl_loss_type) : kernels::KlType::kNone;
  loss_config_.kl_coef = static_cast<float>(config.kl_loss_coef);
  loss_config_.entropy_coef = static_cast<float>(config.entropy_coeff);
}

Metrics GrpoTrainer::update(std::span<const GrpoSample> samples) {
  check(!samples.empty(), "GrpoTrainer::update: no samples");
  check_internal(!config_.use_kl_loss || reference_ != nullptr,
                 "the KL loss has no reference policy");
  Sums sums;
  for (int64_t epoch = 0; epoch < config_.ppo_epochs; ++epoch) {
    for (std::span<const GrpoSample> mini_batch :
         split_groups(samples, config_.ppo_mini_batch_size))
      update_mini_batch(mini_batch, sums.updates == 0, sums);
  }
  const Figures& all = sums.figures;
  const double tokens = std::max(all.loss.tokens, 1.0), updates = std::max(sums.updates, 1.0);
  Metrics metrics = {
      {"actor/pg_loss", all.loss.policy / updates},
      {"actor/loss", all.loss.loss / updates},
      {"actor/pg_clipfrac", all.loss.clipped / tokens},
      {"actor/pg_clipfrac_lower", all.loss.clipped_lower / tokens},
      {"actor/ppo_kl", all.loss.ppo_kl / tokens},
      {"actor/entropy", all.entropy / std::max(all.entropy_tokens, 1.0)},
      {"actor/grad_norm", sums.grad_norm / updates},
      {"actor/lr", sums.lr},
      {"training/rollout_probs_diff_max", all.diff_max},
      {"training/rollout_probs_diff_mean", all.diff_sum / std::max(all.diff_tokens, 1.0)},
      {"rollout_corr/k3_kl", all.k3 / std::max(all.diff_tokens, 1.0)},
      {"moe/max_vio", max_violation(sums.routing)},
  };
  if (config_.use_kl_loss) {
    metrics["actor/kl_loss"] = all.loss.kl / updates;
    metrics["actor/kl_coef"] = config_.kl_loss_coef;
  }
  if (config_.aux_loss_alpha > 0) metrics["moe/balance_loss"] = all.balance_loss / updates;
  return metrics;
}

void GrpoTrainer::update_mini_batch(std::span<const GrpoSample> samples, bool on_policy,
                                    Sums& sums) {
  std::vector<const GrpoSample*> used;
  std::vector<int64_t> lengths;
  for (const GrpoSample& sample : samples) {
    if (!sample.in_loss) continue;
    used.push_back(&sample);
    lengths.push_back(static_cast<int64_t>(sample.sequence.completion.size()));
  }
  if (used.empty()) return;
  const double scale = config_.loss_scale_factor > 0 ? config_.loss_scale_factor
                                                     : static_cast<double>(max_response_length_);
  const std::vector<double> weights = loss_weights(lengths, config_.loss_agg_mode, scale);
  std::vector<int64_t> tokens;
  for (const GrpoSample* sample : used) tokens.push_back(sample->sequence.num_tokens());
  const DataParallel& parallel = optimizer_.parallel();
  RoutingCounts routing;  // of this rank's shards
  const std::vector<Figures> shards = parallel.for_each_part<Figures>(
      tokens,
      [&](size_t first, size_t n) {
        return run_shard(std::span(used).subspan(first, n), std::span(weights).subspan(first, n),
                         1.0 / static_cast<double>(used.size()), on_policy, routing);
      },
      [&] { optimizer_.add_shards(ctx_); });
  for (const Figures& figures : shards) sums.figures.add(figures);
  routing = parallel.add_up(routing);
  sums.lr = learning_rate(config_.optim, optimizer_.num_steps(), total_optimizer_steps_);
  sums.grad_norm += optimizer_.step(ctx_, sums.lr);
  sums.updates += 1;
  if (config_.router_bias_update_rate > 0)
    policy_.update_router_bias(routing, config_.router_bias_update_rate);
  sums.routing.add(routing);
  policy_.pack(ctx_);
}

GrpoTrainer::Figures GrpoTrainer::run_shard(std::span<const GrpoSample* const> samples,
                                            std::span<const double> weights, double sequence_weight,
                                            bool on_policy, RoutingCounts& routing) {
  Figures figures;
  const std::vector<int64_t> borders =
      split_micro_batches(sequences_of(samples), config_.ppo_max_token_len);
  optimizer_.parallel().for_each_micro_batch(borders, [&](size_t first, size_t n) {
    run_micro_batch(samples.subspan(first, n), weights.subspan(first, n), sequence_weight,
                    on_policy, figures, routing);
  });
  return figures;
}

void GrpoTrainer::run_micro_batch(std::span<const GrpoSample* const> samples,
                                  std::span<const double> weights, double sequence_weight,
                                  bool on_policy, Figures& figures, RoutingCounts& routing) {
  const std::vector<const TrainSequence*> sequences = sequences_of(samples);
  KvCache& cache = training_cache(SequencePass::num_blocks_needed(sequences));

  std::vector<float> reference_log_probs;
  if (config_.use_kl_loss) {
    const SequencePass reference(ctx_, *reference_, sequences, cache, {.temperature = temperature_},
                                 false);
    reference_log_probs.assign(reference.log_probs().begin(), reference.log_probs().end());
  }
  SequencePass pass(ctx_, policy_, sequences, cache,
                    {.temperature = temperature_,
                     .recompute = config_.recompute,
                     .balance_alpha = config_.aux_loss_alpha,
                     .balance_scale = sequence_weight},
                    true);

  const size_t num_tokens = pass.log_probs().size();
  std::vector<float> rollout(num_tokens), advantages(num_tokens), token_weights(num_tokens);
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto begin = static_cast<size_t>(pass.offsets()[i]);
    const GrpoSample& sample = *samples[i];
    check(sample.rollout_log_probs.size() == sample.sequence.completion.size(),
          "GrpoTrainer: a sample has ", sample.sequence.completion.size(), " tokens and ",
          sample.rollout_log_probs.size(), " log-probs");
    for (size_t t = 0; t < sample.rollout_log_probs.size(); ++t) {
      rollout[begin + t] = sample.rollout_log_probs[t];
      advantages[begin + t] = sample.advantage;
      token_weights[begin + t] = static_cast<float>(weights[i]);
    }
  }
  for (size_t t = 0; t < num_tokens; ++t) {
    figures.entropy += pass.entropy()[t];
    if (!on_policy) continue;
    const double difference = pass.log_probs()[t] - rollout[t];
    const bool same =
        std::bit_cast<uint32_t>(pass.log_probs()[t]) == std::bit_cast<uint32_t>(rollout[t]);
    const double probability = std::abs(std::exp(static_cast<double>(pass.log_probs()[t])) -
                                        std::exp(static_cast<double>(rollout[t])));
    figures.diff_max = std::max(figures.diff_max, probability);
    figures.diff_sum += probability;
    figures.diff_tokens += 1;
    figures.k3 += std::exp(difference) - difference - 1;
    check_internal(same || !config_.require_exact_rollout, "the training forward gives log-prob ",
                   pass.log_probs()[t], " where the sampler recorded ", rollout[t], " (token ", t,
                   " of a micro-batch of ", num_tokens,
                   "); sampler and trainer hold different weights or kernels");
  }
  figures.entropy_tokens += static_cast<double>(num_tokens);

  std::vector<float> dlog_probs(num_tokens);
  std::vector<float> dentropy(config_.entropy_coeff != 0 ? num_tokens : 0);
  const kernels::PolicyLossInput input = {
      .log_probs = pass.log_probs(),
      .old_log_probs = rollout,
      .ref_log_probs = reference_log_probs,
      .entropy = config_.entropy_coeff != 0 ? pass.entropy() : std::span<const float>(),
      .advantages = advantages,
      .weights = token_weights};
  const kernels::PolicyLossSums loss =
      kernels::policy_loss(loss_config_, input, dlog_probs, dentropy);
  if (!std::isfinite(loss.loss))
    throw NumericalError(
        concat("the policy loss is ", loss.loss, " at optimizer step ", optimizer_.num_steps()));
  figures.loss.add(loss);
  figures.balance_loss += pass.balance_loss();
  routing.add(pass.routing());
  pass.backward(ctx_, policy_, dlog_probs, dentropy);
}

KvCache& GrpoTrainer::training_cache(int64_t num_blocks) {
  if (!cache_ || cache_->num_blocks() < num_blocks)
    cache_ =
        std::make_unique<KvCache>(policy_.config(), policy_.dtype(), num_blocks, policy_.device());
  return *cache_;
}

}  // namespace moerl
