#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stop_token>
#include <vector>

#include "reward/sample.h"
#include "reward/verdict.h"
#include "reward/verifier_registry.h"

namespace moerl::reward {

struct ScorerConfig {
  /// Threads that run verifiers; >= 1.
  int num_threads = 2;
  /// Samples that may wait for a thread; >= 1.
  int queue_capacity = 16384;
  /// Time that a verifier has for one sample, in milliseconds; waiting does not count. >= 1.
  int deadline_ms = 10'000;
  /// Threads that may hang in a verifier past the deadline and are replaced; >= 0.
  int max_hung_threads = 8;
};

/// What a scorer has done so far.
struct ScorerStats {
  uint64_t num_scored = 0;  ///< verdicts, those below included
  uint64_t num_timeouts = 0;
  uint64_t num_internal_errors = 0;
  int num_queued = 0;        ///< waiting now
  int num_hung_threads = 0;  ///< past their deadline now
};

/// Runs verifiers on a pool of threads, each sample under a deadline.
///
/// At the deadline the sample gets the status kTimeout and the score of a wrong answer (all parts
/// 0), its WorkBudget is spent, and its thread is left alone: a new thread takes its place. When
/// the verifier returns after all, its thread rejoins the pool or ends. With more than
/// max_hung_threads such threads, new work is refused until one returns.
///
/// A verifier that takes batches is given what waits for it, shared among the threads.
/// An exception of a verifier becomes a verdict with the status kInternalError.
/// Thread safety: all methods. Callbacks run on threads of the scorer, must be quick and must
/// neither throw nor destroy the scorer.
class Scorer {
 public:
  /// One sample's end: a verdict with the item's id, or Cancelled or ResourceExhausted.
  using Done = std::function<void(std::exception_ptr error, Verdict verdict)>;
  /// A batch's end: verdicts in the order of the items, or the first error.
  using BatchDone = std::function<void(std::exception_ptr error, std::vector<Verdict> verdicts)>;

  /// @throws std::invalid_argument if a field of the config is out of range.
  Scorer(std::shared_ptr<const VerifierRegistry> registry, const ScorerConfig& config);
  /// Waiting samples end with Cancelled; running ones are told to stop and end by their deadline.
  ~Scorer();
  Scorer(const Scorer&) = delete;
  Scorer& operator=(const Scorer&) = delete;

  /// Queues one sample; `done` is called once, unless this throws.
  /// @param cancel  when stop is requested before the sample starts, it ends with Cancelled.
  /// @throws std::invalid_argument for an unknown verifier or option; ResourceExhausted if the
  ///   queue is full or too many threads hang.
  void submit(ScoreItem item, std::stop_token cancel, Done done);

  /// Queues all items or none; `done` is called once, when the last has ended, unless this throws.
  /// @throws as submit.
  void submit_batch(std::vector<ScoreItem> items, std::stop_token cancel, BatchDone done);

  ScorerStats stats() const;
  const VerifierRegistry& registry() const { return *registry_; }

 private:
  struct State;
  struct Job;
  Job make_job(ScoreItem item, const std::stop_token& cancel) const;

  std::shared_ptr<const VerifierRegistry> registry_;
  std::shared_ptr<State> state_;
};

}  // namespace moerl::reward
