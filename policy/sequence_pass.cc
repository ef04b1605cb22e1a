#include "policy/sequence_pass.h"

#include <algorithm>

#include "kernels/layout/rows.h"
#include "kernels/loss/token_log_prob.h"

namespace moerl {
namespace {

/// Rows `rows` of x, in that order.
Tensor gather_rows(ExecContext& ctx, const Tensor& x, std::span<const int32_t> rows) {
  Tensor y = ctx.empty({static_cast<int64_t>(rows.size()), x.dim(1)}, x.dtype());
  kernels::gather_rows(ctx, x, rows, y);
  return y;
}

/// The gradient of gather_rows: zeros elsewhere.
Tensor scatter_rows(ExecContext& ctx, const Tensor& dy, std::span<const int32_t> rows,
                    int64_t num_rows) {
  Tensor dx = ctx.empty({num_rows, dy.dim(1)}, dy.dtype());
  kernels::scatter_rows(ctx, dy, rows, dx);
  return dx;
}

}  // namespace

std::vector<int64_t> split_micro_batches(std::span<const TrainSequence* const> sequences,
                                         int64_t max_tokens) {
  check(max_tokens >= 1, "split_micro_batches: max_tokens is ", max_tokens, ", expected >= 1");
  std::vector<int64_t> borders = {0};
  int64_t tokens = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t n = sequences[i]->num_tokens();
    if (tokens > 0 && tokens + n > max_tokens) {
      borders.push_back(static_cast<int64_t>(i));
      tokens = 0;
    }
    tokens += n;
  }
  if (!sequences.empty()) borders.push_back(static_cast<int64_t>(sequences.size()));
  return borders;
}

int64_t SequencePass::num_blocks_needed(std::span<const TrainSequence* const> sequences) {
  int64_t blocks = 0;
  for (const TrainSequence* s : sequences)
    blocks += (s->num_tokens() + kernels::kKvBlock - 1) / kernels::kKvBlock;
  return std::max<int64_t>(blocks, 1);
}

SequencePass::SequencePass(ExecContext& ctx, const Transformer& model,
                           std::span<const TrainSequence* const> sequences, KvCache& cache,
                           const Options& options, bool training)
    : options_(options) {
  std::vector<std::vector<int32_t>> tokens;
  int32_t row = 0;
  for (const TrainSequence* s : sequences) {
    check(!s->prompt.empty() && !s->completion.empty(), "SequencePass: a sequence has ",
          s->prompt.size(), " prompt and ", s->completion.size(),
          " completion tokens, expected at least one of each");
    std::vector<int32_t> all = s->prompt;
    all.insert(all.end(), s->completion.begin(), s->completion.end());
    offsets_.push_back(static_cast<int64_t>(targets_.size()));
    for (size_t i = s->prompt.size(); i < all.size(); ++i) {
      loss_rows_.push_back(row + static_cast<int32_t>(i) -
                           1);  // the row before a token predicts it
      targets_.push_back(all[i]);
    }
    for (size_t i = 0; i < all.size(); ++i) {
      next_tokens_.push_back(i + 1 < all.size() ? all[i + 1] : all[i]);
      // The module's row i predicts token i + 2; it learns completion tokens only.
      if (i + 2 < all.size() && i + 2 >= s->prompt.size()) {
        mtp_rows_.push_back(row + static_cast<int32_t>(i));
        mtp_targets_.push_back(all[i + 2]);
      }
    }
    row += static_cast<int32_t>(all.size());
    tokens.push_back(std::move(all));
  }
  offsets_.push_back(static_cast<int64_t>(targets_.size()));

  batch_ = pack_sequences(tokens);
  pass_.recompute = options.recompute;
  pass_.balance_alpha = options.balance_alpha;
  pass_.balance_scale = options.balance_scale;
  hidden_ = model.forward(ctx, batch_.batch, cache, training ? &pass_ : nullptr);
  loss_hidden_ = gather_rows(ctx, hidden_, loss_rows_);
  log_probs_.resize(targets_.size());
  entropy_.resize(targets_.size());
  lse_.resize(targets_.size());
  kernels::token_log_prob_forward(ctx, loss_hidden_, model.head(),
                                  model.config().sampled_vocab_size(), options.temperature,
                                  targets_, log_probs_, entropy_, lse_);
  if (options.mtp_loss_weight > 0) run_mtp(ctx, model, cache, training);
}

void SequencePass::run_mtp(ExecContext& ctx, const Transformer& model, KvCache& cache,
                           bool training) {
  mtp_hidden_ = model.mtp_forward(ctx, hidden_, next_tokens_, batch_.batch, cache,
                                  training ? &pass_ : nullptr);
  mtp_loss_hidden_ = gather_rows(ctx, mtp_hidden_, mtp_rows_);
  mtp_log_probs_.resize(mtp_rows_.size());
  mtp_lse_.resize(mtp_rows_.size());
  kernels::token_log_prob_forward(ctx, mtp_loss_hidden_, model.head(),
                                  model.config().sampled_vocab_size(), 1.0f, mtp_targets_,
                                  mtp_log_probs_, {}, mtp_lse_);
  for (float log_prob : mtp_log_probs_) mtp_loss_ -= options_.mtp_token_weight * log_prob;
}

void SequencePass::backward(ExecContext& ctx, Transformer& model, std::span<const float> dlog_probs,
                            std::span<const float> dentropy) {
  const int64_t vocab = model.config().sampled_vocab_size();
  Tensor dloss_hidden = ctx.empty(loss_hidden_.shape(), loss_hidden_.dtype());
  kernels::token_log_prob_backward(ctx, loss_hidden_, model.head(), vocab, options_.temperature,
                                   targets_, lse_, entropy_, dlog_probs, dentropy, dloss_hidden,
                                   model.head_grad());
  Tensor dhidden = scatter_rows(ctx, dloss_hidden, loss_rows_, hidden_.dim(0));
  if (options_.mtp_loss_weight > 0) {
    const std::vector<float> dmtp(mtp_rows_.size(), static_cast<float>(-options_.mtp_loss_weight *
                                                                       options_.mtp_token_weight));
    Tensor dmtp_loss_hidden = ctx.empty(mtp_loss_hidden_.shape(), mtp_loss_hidden_.dtype());
    kernels::token_log_prob_backward(ctx, mtp_loss_hidden_, model.head(), vocab, 1.0f, mtp_targets_,
                                     mtp_lse_, {}, dmtp, {}, dmtp_loss_hidden, model.head_grad());
    model.mtp_backward(ctx, scatter_rows(ctx, dmtp_loss_hidden, mtp_rows_, hidden_.dim(0)),
                       next_tokens_, batch_.batch, pass_, dhidden);
  }
  model.backward(ctx, dhidden, batch_.batch, pass_);
}

}  // namespace moerl
