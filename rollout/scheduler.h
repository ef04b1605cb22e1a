#pragma once
#include <array>
#include <deque>
#include <vector>

#include "rollout/kv_block_manager.h"
#include "rollout/sequence.h"

namespace moerl {

struct SchedulerConfig {
  int64_t num_kv_blocks = 0;
  int64_t max_num_seqs = 0;        ///< sequences that run at once
  int64_t max_batched_tokens = 0;  ///< rows of one step; >= max_num_seqs
};

/// A run of positions that one step computes: of a sequence, or of a group's prompt.
struct ScheduledRows {
  PromptGroup* group = nullptr;
  Sequence* sequence = nullptr;  ///< null: the prompt, into the group's own table
  int64_t start = 0, num_rows = 0;
};

/// A sequence that gets its next token in one step.
struct ScheduledSample {
  Sequence* sequence = nullptr;  ///< null: it has ended since
  /// Row of the step's batch whose hidden state it is drawn from; -1: the group's last_hidden.
  int64_t row = -1;
};

/// What one step does, in this order: copies, one forward over the rows, one draw of the samples.
struct StepPlan {
  std::vector<BlockCopy> copies;  ///< in order
  std::vector<ScheduledRows> rows;
  std::vector<ScheduledSample> samples;
  int64_t num_rows = 0;
  /// Of a plan ahead, for each row: the sample of the plan before whose token it computes.
  std::vector<int32_t> sources;

  void clear();
  /// Whether it draws the next token of running sequences, a row each, and does nothing else.
  bool is_decode() const;
};

/// Continuous batching: decides, step by step, which sequences run.
///
/// Sequences are served in order of arrival. Every running one advances by a token a step; with the
/// rows left over, prompts are computed (in chunks, once for a whole group) and preempted sequences
/// are recomputed. When blocks run out, kept prompts and then the youngest running sequence give
/// theirs up. The oldest sequence is therefore never held up, and as add() refuses what could not
/// fit alone, every sequence finishes. Invariant: a running sequence is older than a waiting one.
///
/// Decisions depend on the calls only, never on time. A step costs O(running + admitted).
/// Not thread safe.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);

  /// @throws std::invalid_argument if a sequence of so many positions can never fit in the cache.
  void check_fits(int64_t max_positions) const;
  /// All sequences of the group wait. The group must stay where it is until all have finished or
  /// remove() was called.
  void add(PromptGroup& group);
  /// The plan of the next step; empty only if idle(). It is valid until the next but one is
  /// made; a sample whose sequence ends meanwhile loses it.
  const StepPlan& schedule();
  /// The plan of the step behind the last one, while the latter's tokens are not known: what is
  /// left of its sequences, each a position further. Null if there may be more to do (somebody
  /// could be admitted or has to be preempted), or nothing: then schedule() decides once the tokens
  /// are known. REQUIRES: the last plan is_decode() and was committed.
  const StepPlan* schedule_ahead();
  /// Takes note that the last plan's rows are in the cache, or will be before anything that is
  /// computed later.
  void commit();
  /// The sequence is complete: frees its blocks.
  void finish(Sequence& sequence);
  /// Drops what is left of the group and frees its blocks.
  void remove(PromptGroup& group);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  const std::vector<Sequence*>& running() const { return running_; }  ///< oldest first
  const KvBlockManager& blocks() const { return blocks_; }
  int64_t num_preemptions() const { return num_preemptions_; }

 private:
  void schedule_running(int64_t& budget);
  void admit(int64_t& budget);
  bool start_next(PromptGroup& group, int64_t& budget);
  bool prefill(PromptGroup& group, int64_t members, int64_t& reserved, int64_t& budget);
  void schedule_rows(Sequence& sequence, int64_t num_rows, int64_t& budget);
  /// Grows the table of a running sequence, at others' expense if it must. False: it was itself the
  /// youngest and got preempted.
  bool secure(Sequence& sequence, int64_t positions);
  bool has_room(int64_t num_blocks) const;
  /// The youngest prompt kept for waiting sequences, other than `except`, is dropped.
  bool evict_prompt(const PromptGroup* except);
  void drop_prompt(PromptGroup& group);
  void preempt_youngest();
  StepPlan& plan() { return plans_[last_plan_]; }
  StepPlan& begin_plan();
  /// The table that holds the whole computed prompt, or none.
  std::span<const int32_t> computed_prompt(const PromptGroup& group) const;

  SchedulerConfig config_;
  KvBlockManager blocks_;
  std::deque<PromptGroup*> waiting_;    ///< groups with waiting sequences, oldest first
  std::vector<Sequence*> running_;      ///< oldest first
  std::vector<PromptGroup*> resident_;  ///< groups with a block table of their own
  std::array<StepPlan, 2> plans_;       ///< the last one, and the one before
  size_t last_plan_ = 0;
  bool settled_ = false;  ///< nothing has happened since schedule() that could let somebody in
  uint64_t next_age_ = 0;
  int64_t num_preemptions_ = 0;
};

}  // namespace moerl
