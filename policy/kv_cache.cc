#include "policy/kv_cache.h"

namespace moerl {

KvCache::KvCache(const ModelConfig& config, DType dtype, int64_t num_blocks)
    : num_blocks_(num_blocks),
      num_kv_heads_(config.num_kv_heads()),
      k_head_dim_(config.k_head_dim()),
      v_head_dim_(config.cached_v_head_dim()),
      dtype_(dtype) {
  check(num_blocks >= 1, "KvCache: num_blocks is ", num_blocks, ", expected >= 1");
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) layers_.push_back(make_layer());
  layers_.resize(static_cast<size_t>(config.num_hidden_layers + config.num_nextn_predict_layers));
}

kernels::PagedKv KvCache::make_layer() const {
  return kernels::make_paged_kv(num_blocks_, num_kv_heads_, k_head_dim_, v_head_dim_, dtype_);
}

kernels::PagedKv& KvCache::layer(int64_t i) {
  check(i >= 0 && i < static_cast<int64_t>(layers_.size()), "KvCache: layer ", i, " of ",
        layers_.size());
  kernels::PagedKv& layer = layers_[static_cast<size_t>(i)];
  if (!layer.keys.defined()) layer = make_layer();
  return layer;
}

void KvCache::copy_block(ExecContext& ctx, int64_t from, int64_t to) {
  for (kernels::PagedKv& layer : layers_)
    if (layer.keys.defined()) kernels::kv_copy_block(ctx, layer, from, to);
}

int64_t KvCache::block_bytes(const ModelConfig& config, DType dtype) {
  return config.num_hidden_layers * config.num_kv_heads() *
         (config.k_head_dim() + config.cached_v_head_dim()) * kernels::kKvBlock * dtype_size(dtype);
}

}  // namespace moerl
