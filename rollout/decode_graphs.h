#pragma once
#include <array>
#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <span>

#include "kernels/cuda/graph.h"
#include "rollout/decode_batch.h"

namespace moerl {

/// Decode steps on kCuda, each by one launch: forward, logits and draw are captured in a CUDA graph
/// for each bucket of rows and of positions, when it is first needed, and a step runs the smallest
/// bucket that holds it. A step is one copy to the device, one launch, and one copy of what was
/// drawn back, none of which the host waits for before it fetches the tokens. The next step can be
/// launched before that: it takes the tokens that it follows from where they were drawn, so that
/// the device goes on while the host looks at them.
///
/// The weights, the cache and the context must stay where they are; what they hold may change.
class DecodeGraphs {
 public:
  /// All but the pool are borrowed. The model shares its experts with nobody.
  DecodeGraphs(const Transformer& model, KvCache& cache, ExecContext& ctx, int64_t max_num_seqs,
               std::shared_ptr<MemoryPool> pool = std::make_shared<MemoryPool>());

  /// Steps that may be launched and not fetched.
  static constexpr size_t kMostUnderWay = 2;

  /// Asks for the next token of each sequence, with the bits of Transformer::forward and logits,
  /// and of sample_token.
  /// @param batch  of segments of one row each, 1 to max_num_seqs of them.
  /// @param sources  of each row: the row of the step launched before whose token it is, whatever
  ///   batch.token_ids says; -1: the token is known. Empty: all are.
  /// @throws as Transformer::forward and sample_token.
  void launch(const ForwardBatch& batch, std::span<const kernels::SampleParams> params,
              std::span<const int32_t> sources = {});
  /// Waits for the tokens of the first step that has not been fetched; one of each of its rows.
  /// REQUIRES: there is one. @throws NumericalError as sample_token.
  void fetch(std::span<int32_t> tokens, std::span<float> log_probs);
  /// Waits for the steps that have not been fetched, and forgets their tokens.
  void drop();
  /// Of the step launched last, [rows, V]; valid until the next one.
  const Tensor& logits() const { return logits_; }

  /// Steps so far, and those of them that were launched before the one before was fetched.
  int64_t num_steps() const { return num_steps_; }
  int64_t num_steps_ahead() const { return num_steps_ahead_; }
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
    std::array<kernels::StagingBuffer, kMostUnderWay> drawn;  ///< on the host
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
  Tensor logits_;
  std::deque<int64_t> under_way_;  // rows of the steps that have not been fetched, oldest first
  int64_t num_steps_ = 0, num_steps_ahead_ = 0;
};

}  // namespace moerl
