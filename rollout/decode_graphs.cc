#include "rollout/decode_graphs.h"

#include <algorithm>

namespace moerl {
namespace {

// What a layer makes for a row, from the shapes in policy/layers.

/// Elements of the working type.
int64_t attention_elements(const ModelConfig& c) {
  const int64_t heads = c.num_attention_heads;
  if (c.attention == AttentionKind::kGrouped) {
    const int64_t q_and_k = heads + c.num_key_value_heads;
    const int64_t all = q_and_k + c.num_key_value_heads;
    return (2 * all + (c.qk_norm ? q_and_k : 0) + heads) * c.head_dim +
           (c.qkv_bias ? 2 * all * c.head_dim : 0) + c.hidden_size;
  }
  const int64_t dn = c.qk_nope_head_dim, dr = c.qk_rope_head_dim, dv = c.v_head_dim;
  const int64_t dc = c.kv_lora_rank;
  const int64_t per_head =
      c.absorbed() ? 2 * dn + 2 * dr + 4 * dc + 2 * dv : 3 * dn + 2 * dr + 3 * dv;
  return 2 * c.q_lora_rank.value_or(0) + heads * per_head + 4 * (dc + dr) + c.hidden_size;
}

/// Of one sequence.
int64_t most_blocks(const ModelConfig& c) {
  return (c.max_position_embeddings + kernels::kKvBlock - 1) / kernels::kKvBlock;
}

int64_t feed_forward_bytes(const ModelConfig& c, int64_t layer, DType dtype) {
  const int64_t size = dtype_size(dtype);
  if (!c.is_moe_layer(layer)) return (3 * c.intermediate_size + c.hidden_size) * size;
  const int64_t k = c.num_experts_per_tok, shared = c.n_shared_experts;
  const int64_t elements = k * (c.hidden_size + 3 * c.moe_intermediate_size) +
                           3 * shared * c.moe_intermediate_size +
                           (shared > 0 ? 2 : 1) * c.hidden_size;
  const int64_t widened = dtype == DType::kF32 ? 0 : c.hidden_size;
  return elements * size + 4 * (widened + 2 * c.n_routed_experts + 4 * k);
}

/// The widest input of a product, as codes and scales.
int64_t quantised_bytes(const ModelConfig& c) {
  const int64_t columns =
      std::max({c.intermediate_size, c.num_attention_heads * std::max(c.v_head_dim, c.head_dim),
                c.num_experts_per_tok * std::max(c.hidden_size, c.moe_intermediate_size)});
  return columns + columns / 128 * 4;
}

}  // namespace

DecodeGraphs::DecodeGraphs(const Transformer& model, KvCache& cache, ExecContext& ctx,
                           int64_t max_num_seqs, std::shared_ptr<MemoryPool> pool)
    : model_(model),
      cache_(cache),
      ctx_(ctx),
      most_{max_num_seqs, model.config().max_position_embeddings},
      pool_(std::move(pool)) {}

DecodeGraphs::Bucket DecodeGraphs::bucket(const Bucket& step, const Bucket& most) {
  constexpr int64_t kStep = 16;
  int64_t rows = 1, keys = kernels::kKvSplit;
  while (rows < step.rows && rows < kStep / 2) rows *= 2;
  if (rows < step.rows) rows = (step.rows + kStep - 1) / kStep * kStep;
  while (keys < step.keys) keys *= 2;
  return {std::min(rows, most.rows), std::min(keys, most.keys)};
}

int64_t DecodeGraphs::memory_estimate(const ModelConfig& model, Precision precision,
                                      int64_t max_num_seqs) {
  const DType dtype = precision.dtype;
  int64_t feed_forward = 0;
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    feed_forward = std::max(feed_forward, feed_forward_bytes(model, layer, dtype));
  if (precision.is_fp8) feed_forward += quantised_bytes(model);
  const int64_t stream = 3 * model.hidden_size;  // before and behind a sum, and its norm
  const int64_t row = 4 * model.vocab_size + feed_forward +
                      (stream + attention_elements(model)) * dtype_size(dtype);
  const bool has_splits = model.max_position_embeddings > kernels::kKvSplit;
  return max_num_seqs * (row + DecodeBatch::row_bytes(most_blocks(model))) +
         (has_splits ? kernels::kAttentionWorkspaceBytes : 0);
}

void DecodeGraphs::prepare() {
  const MemoryPool::Scope scope(pool_);
  const ModelConfig& config = model_.config();
  const auto bytes = static_cast<int64_t>(sizeof(kernels::TokenDraw)) * most_.rows;
  buffers_.reset(new Buffers{
      .batch = DecodeBatch(ctx_, most_.rows, std::min(most_blocks(config), cache_.num_blocks())),
      .logits = ctx_.empty({most_.rows, config.vocab_size}, DType::kF32),
      .draws = ctx_.empty({most_.rows, kernels::kTokenDrawWords}, DType::kI32),
      .drawn = {kernels::StagingBuffer(bytes), kernels::StagingBuffer(bytes)}});
  // First the largest, which takes the memory that the others will find.
  capture(most_);
}

void DecodeGraphs::capture(const Bucket& bucket) {
  const int64_t rows = bucket.rows;
  graphs_[bucket] = kernels::CudaGraph(pool_, [&] {
    buffers_->batch.take_tokens(ctx_, buffers_->draws, rows);
    const Tensor hidden =
        model_.forward(ctx_, buffers_->batch.on_device(rows, bucket.keys), cache_);
    Tensor logits = buffers_->logits.rows(0, rows), draws = buffers_->draws.rows(0, rows);
    kernels::linear_forward(ctx_, hidden, model_.head(), logits);
    kernels::sample_token(ctx_, logits, model_.config().sampled_vocab_size(),
                          buffers_->batch.params(rows), draws);
  });
}

const kernels::CudaGraph& DecodeGraphs::graph(const Bucket& bucket) {
  if (!graphs_.contains(bucket)) capture(bucket);
  return graphs_[bucket];
}

void DecodeGraphs::launch(const ForwardBatch& batch, std::span<const kernels::SampleParams> params,
                          std::span<const int32_t> sources) {
  check_internal(under_way_.size() < kMostUnderWay, "DecodeGraphs: ", under_way_.size(),
                 " steps have not been fetched, expected fewer than ", kMostUnderWay);
  model_.check_batch(batch);
  if (!buffers_) prepare();
  const int64_t count = batch.num_tokens();
  const int64_t last = *std::max_element(batch.positions.begin(), batch.positions.end());
  const Bucket bucket = DecodeGraphs::bucket({count, last + 1}, most_);
  const kernels::CudaGraph& step = graph(bucket);
  buffers_->batch.fill(batch, params, sources, bucket.rows);
  step.launch();
  buffers_->drawn[static_cast<size_t>(num_steps_) % kMostUnderWay].copy_to_host(
      buffers_->draws.rows(0, count));
  logits_ = buffers_->logits.rows(0, count);
  ++num_steps_;
  if (!under_way_.empty()) ++num_steps_ahead_;
  under_way_.push_back(count);
}

void DecodeGraphs::fetch(std::span<int32_t> tokens, std::span<float> log_probs) {
  check_internal(!under_way_.empty() && static_cast<int64_t>(tokens.size()) == under_way_.front(),
                 "DecodeGraphs: ", tokens.size(), " tokens of ", under_way_.size(),
                 " steps are fetched");
  const size_t step = static_cast<size_t>(num_steps_) - under_way_.size();
  under_way_.pop_front();
  const kernels::StagingBuffer& drawn = buffers_->drawn[step % kMostUnderWay];
  drawn.wait();
  kernels::take_draws({reinterpret_cast<const kernels::TokenDraw*>(drawn.data()), tokens.size()},
                      tokens, log_probs);
}

void DecodeGraphs::drop() {
  if (under_way_.empty()) return;
  for (const kernels::StagingBuffer& drawn : buffers_->drawn) drawn.wait();
  under_way_.clear();
}

}  // namespace moerl
