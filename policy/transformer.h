#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/list.h"
#include "policy/kv_cache.h"
#include "policy/model_config.h"
#include "policy/pack_options.h"
#include "policy/parallel/expert_parallel.h"
#include "policy/parameter.h"

namespace moerl {

/// Tokens of several sequences in one pass: whole sequences (training, prefill), or one new token
/// of each (decoding), or both mixed.
struct ForwardBatch {
  std::vector<int32_t> token_ids;                   ///< [T]
  std::vector<int32_t> positions;                   ///< [T], within each token's own sequence
  std::vector<kernels::AttentionSegment> segments;  ///< cover the T rows, in order

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
};

/// The same for inference, where the lists lie on kCuda alone: whoever put them there answers for
/// what they say.
struct BatchOnDevice {
  kernels::List<int32_t> token_ids, positions;
  kernels::SegmentList segments;
};

/// Experts chosen in one pass, summed over its tokens.
struct RoutingCounts {
  /// [MoE layers][E]: the hidden layers, and a last row for the MTP module if it ran.
  std::vector<std::vector<int64_t>> per_layer;
  /// Sums layer by layer; rows that only one side has count as zero on the other.
  void add(const RoutingCounts& other);
};

/// What a layer keeps for backward; defined by the layers, owned by the caller of forward.
struct TransformerSaved;
/// Deleter, so that the type can stay incomplete here.
struct TransformerSavedDelete {
  void operator()(TransformerSaved* saved) const;
};
using TransformerSavedPtr = std::unique_ptr<TransformerSaved, TransformerSavedDelete>;

/// What the training forward is asked for beyond inference.
struct TrainingPass {
  TransformerSavedPtr saved;  ///< filled by forward, used up by backward
  RoutingCounts routing;      ///< filled by forward
  bool recompute = false;    ///< keep only each layer's input and run its forward again in backward
  double balance_alpha = 0;  ///< weight of the sequence-wise balance loss; 0 for none
  /// Filled by forward: sum over layers and sequences, times balance_alpha and balance_scale, so
  /// that backward adds exactly its gradient. mtp_forward adds its layer.
  double balance_loss = 0;
  /// What one sequence weighs in the whole batch.
  double balance_scale = 1;
};

/// Whether a model keeps the fp32 masters of its matrices. Training, saving and sending weights
/// need them; inference reads the working images alone, for which one master at a time is enough.
enum class Masters : bool { kDropped, kKept };

/// A language model of one of the families of policy/families: embedding, blocks of attention and
/// (dense or expert) SwiGLU, final norm, head. Sampler and trainer call this one forward.
///
/// Working type: weights and activations are `dtype` (residual stream too); norms, router, rotary
/// angles and softmax are computed in fp32; router weights, its scores and all logits stay fp32.
/// With precision fp8 the products of attention's projections and of the feed-forward layers, with
/// the activations forward and with the gradients backward, are in FP8 (kernels/gemm/fp8_linear.h),
/// in sampler and trainer alike; embedding, head, router, kv_b_proj and MTP's eh_proj are not, nor
/// is the attention itself, nor are the weights' gradients.
///
/// Thread safety: const members may be called from one thread at a time per ExecContext; nobody may
/// read while weights change (pack, load, optimizer).
class Transformer {
 public:
  /// Weights are zero until init_weights() and pack(), or load().
  /// @param device  where they lie, and where every ExecContext that the model is given must run.
  /// @param experts  the ranks that hold the routed experts together. All of them then call forward
  ///   and backward together, each with tokens of its own or none; see ExpertParallel::passes.
  Transformer(const ModelConfig& config, Precision precision, Masters masters = Masters::kKept,
              Device device = Device::kCpu, const ExpertParallel& experts = {});
  ~Transformer();
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const ModelConfig& config() const;
  Precision precision() const;
  /// Of activations: that of the precision.
  DType dtype() const;
  Device device() const;
  const ExpertParallel& experts() const;
  /// "cpu-bf16", "sm_90-fp8" and the like: machines of one family compute the same bits.
  std::string numeric_family() const;

  /// Every parameter and buffer, in the order of the checkpoint's layers. The pointers stay valid
  /// as long as the model. Tied embeddings are one parameter; the MTP module has no copies of
  /// embedding and head. Without masters, the matrices' values are shapes without memory; so are
  /// those of experts that other ranks hold.
  std::vector<Parameter*> parameters();
  std::vector<const Parameter*> parameters() const;
  bool has_masters() const;
  /// @param what  is to be done with them.
  /// @throws std::invalid_argument if the model keeps no masters.
  void need_masters(std::string_view what) const;
  /// Normal(0, initializer_range) matrices keyed by (seed, name), norms one, biases zero.
  void init_weights(uint64_t seed);
  /// Allocates gradients (zeroed).
  void enable_gradients();
  void zero_gradients();
  /// Sets all weights and makes the working images, with what backward needs where gradients are
  /// enabled. Without masters, memory is needed for the images and for a few rows of a matrix. If
  /// `source` throws, the model cannot be used until it is loaded again.
  void load(ExecContext& ctx, WeightSource& source);
  /// Gives rank 0 the masters of all experts, as they are now. Called by all ranks that share them.
  void gather_experts();
  /// Refreshes the working images after the masters changed. They stay where they are, as do those
  /// that load() makes again.
  /// @param with_dgrad  also what backward needs; a pure sampler leaves it out.
  void pack(ExecContext& ctx, bool with_dgrad = true);

  /// Hidden states after the final norm, [T, D] of the working type. Appends every token's keys and
  /// values to `cache`. A row's bits depend on the weights and its own sequence up to it, and on
  /// nothing else.
  /// @param pass  null in inference.
  /// @param chosen_experts  if not null: appended are the experts of each token, [T, K] int32 in
  ///   the router's order, one tensor for each MoE layer.
  Tensor forward(ExecContext& ctx, const ForwardBatch& batch, KvCache& cache,
                 TrainingPass* pass = nullptr, std::vector<Tensor>* chosen_experts = nullptr) const;
  /// @throws std::invalid_argument naming what is wrong with the batch, or if there are no weights.
  void check_batch(const ForwardBatch& batch) const;
  /// forward in inference. Nothing of it depends on the host, so that a CUDA graph can be captured
  /// of it. Needs a model that shares its experts with nobody.
  Tensor forward(ExecContext& ctx, const BatchOnDevice& batch, KvCache& cache) const;
  /// Adds to every parameter's gradient. The segments of the pass must be whole sequences. With
  /// pass.recompute the bits are the same.
  /// @param dhidden  [T, D] of the working type, gradient of forward's result.
  /// @param batch  as given to forward.
  void backward(ExecContext& ctx, const Tensor& dhidden, const ForwardBatch& batch,
                TrainingPass& pass);

  /// fp32 logits [R, V] of chosen rows of hidden: what the sampler draws from.
  /// @param rows  indices into hidden's rows.
  Tensor logits(ExecContext& ctx, const Tensor& hidden, std::span<const int32_t> rows) const;
  /// The head, for token_log_prob (the embedding when tied).
  const kernels::PackedWeight& head() const;
  Tensor& head_grad();

  /// Aux-loss-free balancing: bias_e += rate * sign(mean(count) - count_e) for every MoE layer.
  /// Models without router bias have nothing to update. Needs no pack(). The MTP module's layer
  /// takes part if the counts have its row. Source: DeepSeek-V3 report section 2.1.2.
  void update_router_bias(const RoutingCounts& counts, double rate);

  /// MTP module (num_nextn_predict_layers = 1): for every sequence's position i, the module's
  /// hidden state that predicts token i + 2, from forward's hidden and the embedding of token i
  /// + 1.
  /// @param next_token_ids [T]: the token after each row's own (any valid id at a sequence's last
  /// row).
  /// @param pass  the one that forward has filled (its saved state and routing get the module's
  /// part), or null.
  /// @return [T, D], to be multiplied with the head.
  Tensor mtp_forward(ExecContext& ctx, const Tensor& hidden,
                     std::span<const int32_t> next_token_ids, const ForwardBatch& batch,
                     KvCache& cache, TrainingPass* pass) const;
  /// Adds the module's gradients and those of the embedding; dhidden gets the gradient of hidden
  /// added. Runs before backward.
  void mtp_backward(ExecContext& ctx, const Tensor& dmtp_hidden,
                    std::span<const int32_t> next_token_ids, const ForwardBatch& batch,
                    TrainingPass& pass, Tensor& dhidden);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The batch of whole sequences and the cache blocks that they fill: row tables kept alive
/// together. May be moved; a copy's segments would point into the original's tables.
struct SequenceBatch {
  ForwardBatch batch;
  std::vector<std::vector<int32_t>> block_tables;
  int64_t num_blocks = 0;  ///< the cache must hold at least as many
};
/// Packs whole sequences one after the other into a ragged batch with blocks 0, 1, 2, ….
SequenceBatch pack_sequences(std::span<const std::vector<int32_t>> sequences);

}  // namespace moerl
