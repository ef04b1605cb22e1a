#include "policy/sft/sft_trainer.h"

#include <cmath>

#include "policy/optim/lr_schedule.h"

namespace moerl {

void visit_fields(FieldVisitor& v, SftConfig& c) {
  v.field("total_epochs", c.total_epochs, kAtLeastOne);
  v.field("train_batch_size", c.train_batch_size, kAtLeastOne);
  v.field("max_token_len", c.max_token_len, kAtLeastOne);
  v.field("recompute", c.recompute);
  v.field("mtp_loss_weight", c.mtp_loss_weight, kNotNegative);
  v.field("aux_loss_alpha", c.aux_loss_alpha, kNotNegative);
  v.field("router_bias_update_rate", c.router_bias_update_rate, kNotNegative);
  v.group("optim", c.optim);
}

SftTrainer::SftTrainer(ExecContext& ctx, Transformer& model, AdamW& optimizer,
                       const SftConfig& config, int64_t total_steps)
    : ctx_(ctx), model_(model), optimizer_(optimizer), config_(config), total_steps_(total_steps) {}

std::map<std::string, double> SftTrainer::update(std::span<const TrainSequence* const> batch) {
  BatchSizes sizes{.sequences = static_cast<double>(batch.size())};
  std::vector<int64_t> lengths;
  for (const TrainSequence* s : batch) {
    lengths.push_back(s->num_tokens());
    sizes.tokens += static_cast<double>(s->completion.size());
    // The module sees no token at index 0 or 1 of a sequence.
    sizes.mtp_tokens += static_cast<double>(s->completion.size()) - (s->prompt.size() == 1 ? 1 : 0);
  }
  const DataParallel& parallel = optimizer_.parallel();
  RoutingCounts routing;  // of this rank's shards
  const std::vector<Figures> shards = parallel.for_each_part<Figures>(
      lengths,
      [&](size_t first, size_t n) { return run_shard(batch.subspan(first, n), sizes, routing); },
      [&] { optimizer_.add_shards(ctx_); });
  routing = parallel.add_up(routing);
  double loss = 0, correct_tokens = 0, balance = 0, mtp = 0;
  for (const Figures& figures : shards) {
    loss += figures.loss;
    correct_tokens += figures.correct_tokens;
    balance += figures.balance;
    mtp += figures.mtp;
  }
  if (!std::isfinite(loss))
    throw NumericalError(
        concat("the SFT loss is ", loss, " at optimizer step ", optimizer_.num_steps()));
  const double lr = learning_rate(config_.optim, optimizer_.num_steps(), total_steps_);
  std::map<std::string, double> metrics = {
      {"train/loss", loss},
      {"train/lr", lr},
      {"train/tokens", sizes.tokens},
      {"train/majority_token_frac", correct_tokens / sizes.tokens},
      {"train/grad_norm", optimizer_.step(ctx_, lr)}};
  if (config_.aux_loss_alpha > 0) metrics["train/balance_loss"] = balance;
  if (config_.mtp_loss_weight > 0) metrics["train/mtp_loss"] = mtp;
  if (config_.router_bias_update_rate > 0)
    model_.update_router_bias(routing, config_.router_bias_update_rate);
  model_.pack(ctx_);
  return metrics;
}

SftTrainer::Figures SftTrainer::run_shard(std::span<const TrainSequence* const> shard,
                                          const BatchSizes& sizes, RoutingCounts& routing) {
  Figures figures;
  const std::vector<int64_t> borders = split_micro_batches(shard, config_.max_token_len);
  optimizer_.parallel().for_each_micro_batch(borders, [&](size_t first, size_t n) {
    const std::span<const TrainSequence* const> part = shard.subspan(first, n);
    SequencePass pass(ctx_, model_, part, training_cache(SequencePass::num_blocks_needed(part)),
                      {.recompute = config_.recompute,
                       .balance_alpha = config_.aux_loss_alpha,
                       .balance_scale = 1.0 / sizes.sequences,
                       .mtp_loss_weight = config_.mtp_loss_weight,
                       .mtp_token_weight = 1.0 / std::max(sizes.mtp_tokens, 1.0)},
                      true);
    for (float log_prob : pass.log_probs()) {
      figures.loss -= log_prob / sizes.tokens;
      figures.correct_tokens += log_prob > -0.6931472f ? 1 : 0;
    }
    figures.balance += pass.balance_loss();
    figures.mtp += pass.mtp_loss();
    routing.add(pass.routing());
    const std::vector<float> dlog_probs(pass.log_probs().size(),
                                        static_cast<float>(-1 / sizes.tokens));
    pass.backward(ctx_, model_, dlog_probs, {});
  });
  return figures;
}

double SftTrainer::evaluate(std::span<const TrainSequence* const> batch) {
  double loss = 0, num_tokens = 0;
  const std::vector<int64_t> borders = split_micro_batches(batch, config_.max_token_len);
  optimizer_.parallel().for_each_micro_batch(borders, [&](size_t first, size_t n) {
    const std::span<const TrainSequence* const> part = batch.subspan(first, n);
    const SequencePass pass(ctx_, model_, part,
                            training_cache(SequencePass::num_blocks_needed(part)), {}, false);
    for (float log_prob : pass.log_probs()) loss -= log_prob;
    num_tokens += static_cast<double>(pass.log_probs().size());
  });
  return loss / std::max(num_tokens, 1.0);
}

KvCache& SftTrainer::training_cache(int64_t num_blocks) {
  if (!cache_ || cache_->num_blocks() < num_blocks)
    cache_ =
        std::make_unique<KvCache>(model_.config(), model_.dtype(), num_blocks, model_.device());
  return *cache_;
}

}  // namespace moerl
