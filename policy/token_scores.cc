#include "policy/token_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "common/error.h"
#include "kernels/loss/token_log_prob.h"

namespace moerl {
namespace {

using Sequences = std::span<const std::vector<int32_t>>;

/// Experts of rows [begin, end) of one batch.
std::vector<std::vector<std::vector<int32_t>>> experts_of(const std::vector<Tensor>& layers,
                                                          int64_t begin, int64_t end) {
  std::vector<std::vector<std::vector<int32_t>>> experts(static_cast<size_t>(end - begin));
  for (int64_t row = begin; row < end; ++row)
    for (const Tensor& layer : layers) {
      const int64_t k = layer.dim(1);
      const int32_t* first = layer.data<int32_t>() + row * k;
      experts[static_cast<size_t>(row - begin)].emplace_back(first, first + k);
    }
  return experts;
}

/// Likeliest tokens behind rows [begin, end) of hidden, a few rows of logits at a time.
std::vector<std::vector<TokenLogProb>> top_of(ExecContext& ctx, const Transformer& model,
                                              const Tensor& hidden, size_t begin, size_t end,
                                              const TokenScoreOptions& options) {
  constexpr size_t kRowsAtOnce = 32;
  std::vector<std::vector<TokenLogProb>> top;
  std::vector<int32_t> rows;
  for (; begin < end; begin += rows.size()) {
    rows.resize(std::min(kRowsAtOnce, end - begin));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(begin));
    const Tensor logits = model.logits(ctx, hidden, rows);
    for (auto& list : top_log_probs(ctx, logits, model.config().sampled_vocab_size(),
                                    options.temperature, options.num_top))
      top.push_back(std::move(list));
  }
  return top;
}

/// One forward over `sequences`; appends their scores.
void score_batch(ExecContext& ctx, const Transformer& model, Sequences sequences,
                 const TokenScoreOptions& options, std::vector<TokenScores>& out) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(model.config(), model.dtype(), packed.num_blocks, model.device());
  std::vector<Tensor> experts;
  const Tensor hidden =
      model.forward(ctx, packed.batch, cache, nullptr, options.with_experts ? &experts : nullptr);
  for (Tensor& layer : experts) layer = layer.to(Device::kCpu);
  // Each row predicts the token behind it; what a sequence's last row predicts is not looked at.
  const size_t rows = packed.batch.token_ids.size();
  std::vector<int32_t> targets(packed.batch.token_ids.begin() + 1, packed.batch.token_ids.end());
  targets.push_back(0);
  std::vector<float> log_probs(rows), entropy(rows);
  kernels::token_log_prob_forward(ctx, hidden, model.head(), model.config().sampled_vocab_size(),
                                  options.temperature, targets, log_probs, entropy, {});
  size_t begin = 0;
  for (const std::vector<int32_t>& sequence : sequences) {
    const size_t end = begin + sequence.size();
    TokenScores& scores = out.emplace_back();
    const auto slice = [&](const std::vector<float>& values) {
      return std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(begin),
                                values.begin() + static_cast<std::ptrdiff_t>(end) - 1);
    };
    scores.log_probs = slice(log_probs);
    scores.entropy = slice(entropy);
    if (options.with_experts)
      scores.experts = experts_of(experts, static_cast<int64_t>(begin), static_cast<int64_t>(end));
    if (options.num_top > 0) scores.top = top_of(ctx, model, hidden, begin, end - 1, options);
    for (size_t i = 0; i < scores.log_probs.size(); ++i)
      if (!std::isfinite(scores.log_probs[i]))
        throw NumericalError(concat("the log-prob of token ", i + 1, " of sequence ",
                                    out.size() - 1, " is ", scores.log_probs[i]));
    begin = end;
  }
}

}  // namespace

std::vector<TokenScores> score_tokens(ExecContext& ctx, const Transformer& model,
                                      Sequences sequences, const TokenScoreOptions& options) {
  check(options.max_tokens >= 1, "score_tokens: max_tokens is ", options.max_tokens,
        ", expected >= 1");
  const int64_t vocab = model.config().sampled_vocab_size();
  for (size_t i = 0; i < sequences.size(); ++i) {
    check(!sequences[i].empty(), "score_tokens: sequence ", i, " is empty");
    for (int32_t id : sequences[i])
      check(id >= 0 && id < vocab, "score_tokens: sequence ", i, " has token id ", id,
            ", expected 0 to ", vocab - 1);
  }
  std::vector<TokenScores> scores;
  scores.reserve(sequences.size());
  size_t begin = 0;
  int64_t tokens = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto length = static_cast<int64_t>(sequences[i].size());
    if (i > begin && tokens + length > options.max_tokens) {
      score_batch(ctx, model, sequences.subspan(begin, i - begin), options, scores);
      begin = i;
      tokens = 0;
    }
    tokens += length;
  }
  if (begin < sequences.size()) score_batch(ctx, model, sequences.subspan(begin), options, scores);
  return scores;
}

}  // namespace moerl
