#include "policy/kv_cache.h"

namespace moerl {
namespace {

kernels::KvValues values_of(const ModelConfig& config) {
  return config.absorbed() ? kernels::KvValues::kInKeys : kernels::KvValues::kStored;
}

}  // namespace

kernels::PagedKv make_layer_cache(const ModelConfig& config, DType dtype, int64_t num_blocks,
                                  Device device) {
  return kernels::make_paged_kv(num_blocks, config.num_kv_heads(), config.k_head_dim(),
                                config.cached_v_head_dim(), dtype, values_of(config), device);
}

KvCache::KvCache(const ModelConfig& config, DType dtype, int64_t num_blocks, Device device)
    : num_blocks_(num_blocks), config_(config), dtype_(dtype), device_(device) {
  check(num_blocks >= 1, "KvCache: num_blocks is ", num_blocks, ", expected >= 1");
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_.push_back(make_layer_cache(config, dtype, num_blocks, device));
  layers_.resize(static_cast<size_t>(config.num_hidden_layers + config.num_nextn_predict_layers));
}

kernels::PagedKv& KvCache::layer(int64_t i) {
  check(i >= 0 && i < static_cast<int64_t>(layers_.size()), "KvCache: layer ", i, " of ",
        layers_.size());
  kernels::PagedKv& layer = layers_[static_cast<size_t>(i)];
  if (!layer.keys.defined()) layer = make_layer_cache(config_, dtype_, num_blocks_, device_);
  return layer;
}

void KvCache::copy_block(ExecContext& ctx, int64_t from, int64_t to) {
  for (kernels::PagedKv& layer : layers_)
    if (layer.keys.defined()) kernels::kv_copy_block(ctx, layer, from, to);
}

int64_t KvCache::block_bytes(const ModelConfig& config, DType dtype) {
  const int64_t stored_v =
      values_of(config) == kernels::KvValues::kStored ? config.cached_v_head_dim() : 0;
  return config.num_hidden_layers * config.num_kv_heads() * (config.k_head_dim() + stored_v) *
         kernels::kKvBlock * dtype_size(dtype);
}

}  // namespace moerl
