#pragma once
#include <vector>

#include "kernels/attention/attention.h"
#include "policy/model_config.h"

namespace moerl {

/// The paged cache of one layer. Absorbed latent attention holds its latent once, as the first
/// kv_lora_rank columns of the keys.
kernels::PagedKv make_layer_cache(const ModelConfig& config, DType dtype, int64_t num_blocks,
                                  Device device);

/// Paged key-value cache of all layers. Block b of every layer belongs to the same positions, so
/// one block table serves the whole model. The MTP module's layer, the last one, takes memory only
/// once it is used.
class KvCache {
 public:
  KvCache(const ModelConfig& config, DType dtype, int64_t num_blocks, Device device = Device::kCpu);

  int64_t num_blocks() const { return num_blocks_; }
  /// @param i  a hidden layer, or num_hidden_layers for the MTP module's.
  kernels::PagedKv& layer(int64_t i);
  /// Copies a block in every layer.
  void copy_block(ExecContext& ctx, int64_t from, int64_t to);
  /// Bytes of one block over all hidden layers, as this machine stores it.
  static int64_t block_bytes(const ModelConfig& config, DType dtype);

 private:
  int64_t num_blocks_;
  ModelConfig config_;
  DType dtype_;
  Device device_;
  std::vector<kernels::PagedKv> layers_;
};

}  // namespace moerl
