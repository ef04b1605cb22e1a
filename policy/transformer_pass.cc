// Forward and backward of the whole model.
#include <algorithm>

#include "kernels/embedding/embedding.h"
#include "policy/transformer_impl.h"

namespace moerl {

Tensor Transformer::Impl::embed(ExecContext& ctx, const kernels::List<int32_t>& token_ids) const {
  Tensor y = ctx.empty({static_cast<int64_t>(token_ids.size()), config.hidden_size}, dtype);
  kernels::embedding_forward(ctx, embedding, token_ids, y);
  return y;
}

void Transformer::Impl::check_packed() const {
  check(packed, "Transformer: the weights have no working image yet; call pack() first");
}

void Transformer::Impl::check_batch(const ForwardBatch& batch, bool training) const {
  check_packed();
  const int64_t num_tokens = batch.num_tokens();
  check(static_cast<int64_t>(batch.positions.size()) == num_tokens,
        "Transformer: ", batch.positions.size(), " positions for ", num_tokens, " tokens");
  int64_t row = 0;
  for (const kernels::AttentionSegment& s : batch.segments) {
    check(s.first_row == row && s.num_rows > 0 && row + s.num_rows <= num_tokens,
          "Transformer: a segment of rows [", s.first_row, ", ", s.first_row + s.num_rows,
          ") follows row ", row, " of ", num_tokens);
    check(!training || s.start == 0, "Transformer: a segment starts at position ", s.start,
          "; training takes whole sequences");
    const int64_t end = s.start + s.num_rows;
    check(s.start >= 0 && end <= config.max_position_embeddings, "Transformer: positions [",
          s.start, ", ", end,
          ") exceed max_position_embeddings = ", config.max_position_embeddings);
    check(static_cast<int64_t>(s.block_table.size()) * kernels::kKvBlock >= end,
          "Transformer: a block table of ", s.block_table.size(), " blocks for ", end,
          " positions of ", kernels::kKvBlock, " each block");
    for (int64_t i = 0; i < s.num_rows; ++i)
      check(batch.positions[static_cast<size_t>(row + i)] == s.start + i, "Transformer: row ",
            row + i, " is at position ", batch.positions[static_cast<size_t>(row + i)],
            ", expected ", s.start + i);
    row += s.num_rows;
  }
  check(row == num_tokens, "Transformer: segments cover ", row, " of ", num_tokens, " rows");
}

void Transformer::Impl::check_backward(const TrainingPass& pass) const {
  check(pass.saved != nullptr, "Transformer: backward without a forward that kept its state");
  check(has_gradients, "Transformer: backward without gradients; call enable_gradients() first");
  check(packed_with_dgrad, "Transformer: backward needs the images of pack(ctx, true)");
}

kernels::PagedKv Transformer::Impl::scratch_cache(const RowPlaces& places) const {
  int32_t last = 0;
  for (const kernels::AttentionSegment& s : places.segments.host())
    last = std::max(last, *std::max_element(s.block_table.begin(), s.block_table.end()));
  return make_layer_cache(config, dtype, last + 1, device);
}

void Transformer::Impl::run_again(ExecContext& ctx, const DecoderBlock& block, const Tensor& input,
                                  const RowPlaces& places, kernels::PagedKv& cache,
                                  DecoderBlock::Saved& saved) const {
  if (!cache.keys.defined()) cache = scratch_cache(places);
  Residual stream{input, {}};
  block.forward(ctx, stream, places, cache, &saved, nullptr);
}

void Transformer::check_batch(const ForwardBatch& batch) const { impl_->check_batch(batch, false); }

Tensor Transformer::forward(ExecContext& ctx, const ForwardBatch& batch, KvCache& cache,
                            TrainingPass* pass, std::vector<Tensor>* chosen_experts) const {
  impl_->check_batch(batch, pass != nullptr);
  return impl_->forward(ctx, batch.token_ids, impl_->places(batch), cache, pass, chosen_experts);
}

Tensor Transformer::Impl::forward(ExecContext& ctx, const kernels::List<int32_t>& token_ids,
                                  const RowPlaces& places, KvCache& cache, TrainingPass* pass,
                                  std::vector<Tensor>* chosen_experts) const {
  TransformerSavedPtr saved(pass ? new TransformerSaved : nullptr);
  const bool keep_all = pass && !pass->recompute, keep_input = pass && pass->recompute;
  RoutingStats stats;
  stats.chosen_experts = chosen_experts;
  if (pass) {
    saved->layers.resize(blocks.size());
    stats.balance_alpha = pass->balance_alpha * pass->balance_scale;
  }

  Residual stream{embed(ctx, token_ids), {}};
  for (size_t i = 0; i < blocks.size(); ++i)
    blocks[i].forward(ctx, stream, places, cache.layer(static_cast<int64_t>(i)),
                      keep_all ? &saved->layers[i] : nullptr,
                      pass || chosen_experts ? &stats : nullptr,
                      keep_input ? &saved->layers[i].input : nullptr);
  Tensor hidden = final_norm.forward(ctx, stream, pass ? &saved->last_rstd : nullptr);

  if (pass) {
    saved->last = stream.x;
    pass->saved = std::move(saved);
    pass->routing.per_layer = std::move(stats.counts);
    pass->balance_loss = stats.balance_loss;
  }
  return hidden;
}

Tensor Transformer::forward(ExecContext& ctx, const BatchOnDevice& batch, KvCache& cache) const {
  impl_->check_packed();
  return impl_->forward(ctx, batch.token_ids, {batch.positions, batch.segments, impl_->rope_table},
                        cache, nullptr, nullptr);
}

void Transformer::backward(ExecContext& ctx, const Tensor& dhidden, const ForwardBatch& batch,
                           TrainingPass& pass) {
  Impl& m = *impl_;
  m.check_backward(pass);
  TransformerSaved& saved = *pass.saved;
  check(dhidden.shape() == saved.last.shape() && dhidden.dtype() == m.dtype,
        "Transformer::backward: dhidden is ", dhidden.shape(), " ", dtype_name(dhidden.dtype()),
        ", expected ", saved.last.shape(), " ", dtype_name(m.dtype));

  Tensor dx = ctx.empty(dhidden.shape(), m.dtype);
  m.final_norm.backward(ctx, dhidden, saved.last, saved.last_rstd, dx, Write::kOverwrite);
  const RowPlaces places = m.places(batch);
  kernels::PagedKv scratch;
  for (size_t i = m.blocks.size(); i-- > 0;) {
    const Tensor input = saved.layers[i].input;
    if (pass.recompute) m.run_again(ctx, m.blocks[i], input, places, scratch, saved.layers[i]);
    m.blocks[i].backward(ctx, dx, places, pass.balance_alpha * pass.balance_scale, saved.layers[i]);
    saved.layers[i] = {};  // its memory serves the next layer
  }
  kernels::embedding_backward(ctx, dx, batch.token_ids, m.embed_tokens.grad);
  pass.saved.reset();
}

Tensor Transformer::mtp_forward(ExecContext& ctx, const Tensor& hidden,
                                std::span<const int32_t> next_token_ids, const ForwardBatch& batch,
                                KvCache& cache, TrainingPass* pass) const {
  const Impl& m = *impl_;
  check(m.mtp.has_value(), "Transformer::mtp_forward: the model has no MTP module");
  m.check_batch(batch, pass != nullptr);
  check(static_cast<int64_t>(next_token_ids.size()) == batch.num_tokens(),
        "Transformer::mtp_forward: ", next_token_ids.size(), " next tokens for ",
        batch.num_tokens(), " rows");
  check(!pass || pass->saved, "Transformer::mtp_forward: call forward with the same pass first");
  RoutingStats stats;
  if (pass) {
    pass->saved->mtp.emplace();
    stats.balance_alpha = pass->balance_alpha * pass->balance_scale;
  }
  Tensor y =
      m.mtp->forward(ctx, m.embed(ctx, next_token_ids), hidden, m.places(batch),
                     cache.layer(m.config.num_hidden_layers), pass ? &*pass->saved->mtp : nullptr,
                     pass && !pass->recompute, pass ? &stats : nullptr);
  if (pass) {
    for (std::vector<int64_t>& counts : stats.counts)
      pass->routing.per_layer.push_back(std::move(counts));
    pass->balance_loss += stats.balance_loss;
  }
  return y;
}

void Transformer::mtp_backward(ExecContext& ctx, const Tensor& dmtp_hidden,
                               std::span<const int32_t> next_token_ids, const ForwardBatch& batch,
                               TrainingPass& pass, Tensor& dhidden) {
  Impl& m = *impl_;
  m.check_backward(pass);
  check(pass.saved->mtp.has_value(), "Transformer::mtp_backward: mtp_forward has not run");
  MtpModule::Saved& saved = *pass.saved->mtp;
  const RowPlaces places = m.places(batch);
  kernels::PagedKv scratch;
  if (pass.recompute)
    m.run_again(ctx, m.mtp->block(), saved.block_input, places, scratch, saved.block);
  const Tensor dembedded = m.mtp->backward(ctx, dmtp_hidden, places,
                                           pass.balance_alpha * pass.balance_scale, saved, dhidden);
  kernels::embedding_backward(ctx, dembedded, next_token_ids, m.embed_tokens.grad);
  pass.saved->mtp.reset();
}

}  // namespace moerl
