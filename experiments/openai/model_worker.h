#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "policy/token_scores.h"
#include "rollout/engine.h"

namespace moerl::openai {

/// The one thread that runs the model: it steps an engine and scores given sequences in between, a
/// batch after each step, so that neither waits for the whole of the other. All members may be
/// called from any thread.
class ModelWorker {
 public:
  /// The scores of each sequence, or why there are none (Cancelled, what the forward threw). Called
  /// once, on the worker's thread; must not block or throw.
  using OnScores = std::function<void(std::vector<TokenScores>, std::exception_ptr)>;

  /// Starts the thread. Model and context are borrowed.
  ModelWorker(const Transformer& model, const EngineConfig& config, ExecContext& ctx);
  /// As stop().
  ~ModelWorker();

  /// As Engine::submit and Engine::cancel; callbacks run on the worker's thread.
  uint64_t submit(GenerateRequest request, GenerateCallbacks callbacks);
  void cancel(uint64_t id);
  /// Queues sequences to be scored at temperature 1. @param num_top  of TokenScoreOptions.
  /// @return an id for cancel_score().
  /// @throws ResourceExhausted if EngineConfig::max_queue sequences wait already; Cancelled.
  uint64_t score(std::vector<std::vector<int32_t>> sequences, int64_t num_top, OnScores on_scores);
  void cancel_score(uint64_t id);

  /// Ends the thread after its present step; what is unfinished ends with Cancelled.
  void stop();

  EngineStatus status() const { return engine_.status(); }
  int64_t num_waiting_scores() const;  ///< sequences
  const Transformer& model() const { return engine_.model(); }

 private:
  struct Scoring {
    uint64_t id = 0;
    std::vector<std::vector<int32_t>> sequences;
    int64_t num_top = 0;
    OnScores on_scores;
    std::vector<TokenScores> scores;  // of the first sequences
    bool cancelled = false;
  };
  void run();
  void wake();
  /// Scores the next few sequences. False: there were none.
  bool score_some();
  void end_scoring(std::exception_ptr error);

  ExecContext& ctx_;
  Engine engine_;
  const int64_t max_queue_, max_batched_tokens_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_; the front is the thread's own but for `cancelled`.
  std::deque<Scoring> scorings_;
  int64_t waiting_sequences_ = 0;
  uint64_t next_id_ = 1;
  bool has_news_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace moerl::openai
