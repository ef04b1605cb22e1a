#pragma once
#include <vector>

#include "kernels/attention/attention.h"
#include "policy/model_config.h"

namespace moerl {

/// Paged key-value cache of all layers. Block b of every layer belongs to the same positions, so
/// one block table serves the whole model. The MTP module's layer, the last one, takes memory only
/// once it is used.
class KvCache {
 public:
  KvCache(const ModelConfig& config, DType dtype, int64_t num_blocks);

  int64_t num_blocks() const { return num_blocks_; }
  /// @param i  a hidden layer, or num_hidden_layers for the MTP module's.
  kernels::PagedKv& layer(int64_t i);
  /// Copies a block in every layer.
  void copy_block(ExecContext& ctx, int64_t from, int64_t to);
  /// Bytes of one block over all hidden layers, as this machine stores it.
  static int64_t block_bytes(const ModelConfig& config, DType dtype);

 private:
  kernels::PagedKv make_layer() const;

  int64_t num_blocks_, num_kv_heads_, k_head_dim_, v_head_dim_;
  DType dtype_;
  std::vector<kernels::PagedKv> layers_;
};

}  // namespace moerl
