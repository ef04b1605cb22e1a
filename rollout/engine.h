#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "policy/top_log_probs.h"
#include "policy/transformer.h"
#include "rollout/completion.h"

namespace moerl {

struct EngineConfig {
  int64_t kv_cache_bytes = int64_t{256} << 20;  ///< used if num_kv_blocks is 0
  int64_t num_kv_blocks = 0;                    ///< of kKvBlock positions; 0: from kv_cache_bytes
  int64_t max_num_seqs = 256;                   ///< sequences that run at once
  int64_t max_batched_tokens = 2048;            ///< rows of one forward; >= max_num_seqs
  int64_t max_queue = 65536;                    ///< unfinished sequences that are accepted
  /// On kCuda: decode steps are launched kernel by kernel, not by CUDA graphs. The bits are the
  /// same.
  bool enforce_eager = false;
};

void visit_fields(FieldVisitor& v, EngineConfig& c);

/// Policy version of an engine whose model has no weights yet; it refuses every request.
inline constexpr int64_t kNoWeights = -1;

/// A token as it is drawn.
struct DrawnToken {
  uint64_t prompt_id = 0;
  int64_t sample_index = 0;
  int32_t token = 0;
  float log_prob = 0;
  /// GenerateRequest::num_top_log_probs of them, likeliest first; valid during the call.
  std::span<const TokenLogProb> top;
};

/// What happens to a request. Called on the thread that steps the engine; must not block, throw or
/// call the engine other than submit() and cancel().
struct GenerateCallbacks {
  std::function<void(Completion)> on_completion;
  /// Once, last. Null: every completion was delivered. Cancelled, FailedPrecondition (the weights
  /// changed before the request's turn) or what the forward threw otherwise.
  std::function<void(std::exception_ptr)> on_done;
  /// Each token as it is drawn; may be null. False: the completion ends with this token (kStop).
  std::function<bool(const DrawnToken&)> on_token;
};

struct EngineStatus {
  int64_t policy_version = 0;
  uint64_t weights_hash = 0;  ///< 0: shared with the trainer
  int64_t queued_sequences = 0, running_sequences = 0;
  int64_t kv_blocks_total = 0, kv_blocks_free = 0;
  int64_t num_preemptions = 0;
  int64_t num_graph_steps = 0;  ///< that were one launch of a CUDA graph
  int64_t num_steps_ahead = 0;  ///< of them, launched before the tokens before were looked at
};

/// Samples completions from a policy with continuous batching.
///
/// A completion is a pure function of (weights, prompt ids, prompt_id, sample_index, seed, sampling
/// parameters): the forward's bits do not depend on the batch, and the token at position i of a
/// sequence is drawn with sampling_uniform(seed, prompt_id, sample_index, i). Batch limits, memory
/// budget, preemption and threads change the speed only.
///
/// The weights are the model's own; nothing is copied. Whoever changes them does so inside
/// with_exclusive_weights().
///
/// Thread safety: all members but step() may be called from any thread.
class Engine {
 public:
  /// Allocates the key-value cache. Model and context are borrowed.
  /// @param policy_version  of the weights that the model has now, or kNoWeights.
  /// @throws std::invalid_argument if the configuration is unusable.
  Engine(const Transformer& model, const EngineConfig& config, ExecContext& ctx,
         int64_t policy_version = 0);
  /// As stop().
  ~Engine();

  /// Machines of one family compute the same bits: the model's family and its form of attention,
  /// such as "cpu-bf16-expanded".
  static std::string numeric_family(const Transformer& model);
  const Transformer& model() const;

  /// Queues a request; returns its id for cancel(). The callbacks are not called before.
  /// @throws std::invalid_argument, FailedPrecondition (other policy version), ResourceExhausted
  ///   (queue full), Cancelled (stopped); then no callback is ever called.
  uint64_t submit(GenerateRequest request, GenerateCallbacks callbacks);
  /// The request ends with Cancelled and its blocks are freed before the next step. Does nothing if
  /// it has ended already.
  void cancel(uint64_t id);

  /// Starts the thread that steps while there is work.
  void start();
  /// Ends the thread after the present step; every unfinished request ends with Cancelled.
  void stop();
  /// Advances every running sequence by a token. False: there was nothing to do. For callers that
  /// do without the thread.
  bool step();

  // For a model whose experts are spread over ranks, which must all step together; see
  // rollout/step_together.h. Without the thread, too.

  /// Takes up what was submitted and cancelled; whether there is anything to do.
  bool has_work();
  /// Advances every running sequence by a token; without any, computes for those of other ranks.
  /// @throws what the forward threw, after every request has ended with it.
  void step_with_others();

  /// Runs `change` while no sequence holds state of the weights: requests that have begun finish
  /// first, the others wait. Blocks until then; exceptions of `change` pass through. Must not be
  /// called from a callback, nor from within `change`.
  void with_exclusive_weights(const std::function<void()>& change);
  /// The version that completions carry from now on, or kNoWeights.
  /// @throws FailedPrecondition while a request is running; never inside with_exclusive_weights(),
  ///   nor after the end of every request was reported.
  void set_policy_version(int64_t version, uint64_t weights_hash = 0);
  EngineStatus status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moerl
