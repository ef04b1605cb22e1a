#pragma once
#include <compare>
#include <map>
#include <memory>
#include <span>

#include "kernels/cuda/graph.h"
#include "rollout/decode_batch.h"

namespace moerl {

/// Decode steps on kCuda, each by one launch: forward, logits and draw are captured in a CUDA graph
/// for each bucket of rows and of positions, when it is first needed, and a step runs the smallest
/// bucket that holds it. A step is one copy to the device, one launch, and one copy of what was
/// drawn back.
///
/// The weights, the cache and the context must stay where they are; what they hold may change.
class DecodeGraphs {
 public:
  /// All but the pool are borrowed. The model shares its experts with nobody.
  DecodeGraphs(const Transformer& model, KvCache& cache, ExecContext& ctx, int64_t max_num_seqs,
               std::shared_ptr<MemoryPool> pool = std::make_shared<MemoryPool>());

  /// Draws the next token of each sequence, with the bits of Transformer::forward and logits, and
  /// of sample_token.
  /// @param batch  of segments of one row each, 1 to max_num_seqs of them.
  /// @return their logits, [rows, V], valid until the next step.
  /// @throws as Transformer::forward and sample_token.
  Tensor step(const ForwardBatch& batch, std::span<const kernels::SampleParams> params,
              std::span<int32_t> tokens, std::span<float> log_probs);

  /// Steps so far.
  int64_t num_steps() const { return num_steps_; }
  /// Of the device, for all graphs together; 0 before the first step.
  int64_t memory_bytes() const { return pool_->bytes(); }
  /// What that will be, estimated from the shapes: a step's inputs and logits, and what one layer
  /// of each kind makes. What the driver keeps of a graph itself is not counted.
  static int64_t memory_estimate(const ModelConfig& model, Precision precision,
                                 int64_t max_num_seqs);

  /// For how many sequences a graph is made, and up to which position they may stand.
  struct Bucket {
    int64_t rows = 0, keys = 0;
    friend auto operator<=>(const Bucket&, const Bucket&) = default;
  };
  /// The one for a step: rows are 1, 2, 4, 8, or a multiple of 16, keys a power of two of splits
  /// (kKvSplit), and no more than `most` of either.
  static Bucket bucket(const Bucket& step, const Bucket& most);

 private:
  /// What lies in the pool beside the graphs' own.
  struct Buffers {
    DecodeBatch batch;
    Tensor logits, draws;
  };
  void prepare();
  const kernels::CudaGraph& graph(const Bucket& bucket);
  void capture(const Bucket& bucket);

  const Transformer& model_;
  KvCache& cache_;
  ExecContext& ctx_;
  const Bucket most_;
  std::shared_ptr<MemoryPool> pool_;
  std::unique_ptr<Buffers> buffers_;
  std::map<Bucket, kernels::CudaGraph> graphs_;
  std::vector<kernels::TokenDraw> drawn_;
  int64_t num_steps_ = 0;
};

}  // namespace moerl
