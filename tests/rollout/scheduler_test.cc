#include "rollout/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>

#include "common/rng.h"

namespace moerl {
namespace {

constexpr int64_t kBlock = kernels::kKvBlock;

/// Plays the engine: instead of keys and values a block holds the position that was written to each
/// of its places, and for whom. Checks that what a step reads is there.
class FakeEngine {
 public:
  /// @param runs_ahead  computes the next step, where it can be known, before it draws this one's
  ///   tokens.
  explicit FakeEngine(const SchedulerConfig& config, bool runs_ahead = false)
      : config_(config),
        runs_ahead_(runs_ahead),
        scheduler_(config),
        cells_(static_cast<size_t>(config.num_kv_blocks)) {
    for (auto& block : cells_) block.assign(kBlock, {});
  }

  PromptGroup& add(int64_t prompt_length, int64_t group_size, std::vector<int64_t> num_tokens) {
    PromptGroup& group = groups_.emplace_back();
    group.prompt_id = groups_.size();
    group.prompt.assign(static_cast<size_t>(prompt_length), 1);
    group.max_positions = prompt_length + *std::max_element(num_tokens.begin(), num_tokens.end());
    group.sequences = std::vector<Sequence>(static_cast<size_t>(group_size));
    for (size_t i = 0; i < group.sequences.size(); ++i) {
      group.sequences[i].group = &group;
      group.sequences[i].sample_index = static_cast<int64_t>(i);
      goal_[&group.sequences[i]] = num_tokens[i % num_tokens.size()];
    }
    scheduler_.add(group);
    return group;
  }

  void step() {
    if (computed_ == nullptr) compute(*(computed_ = &scheduler_.schedule()));
    const StepPlan& plan = *computed_;
    computed_ = runs_ahead_ && plan.is_decode() ? scheduler_.schedule_ahead() : nullptr;
    if (computed_ != nullptr) {
      check_follows(*computed_, plan);
      compute(*computed_);
      ++num_steps_ahead_;
    }
    for (const ScheduledSample& sample : plan.samples) {
      if (sample.sequence == nullptr) continue;
      Sequence& s = *sample.sequence;
      ASSERT_EQ(s.status, SequenceStatus::kRunning);
      s.tokens.push_back(2);
      if (static_cast<int64_t>(s.tokens.size()) == goal_.at(&s)) scheduler_.finish(s);
    }
    if (scheduler_.idle()) computed_ = nullptr;
    ASSERT_LE(static_cast<int64_t>(scheduler_.running().size()), config_.max_num_seqs);
    check_ownership();
    check_order();
  }

  int run(int max_steps = 100000) {
    int steps = 0;
    for (; !scheduler_.idle() && steps < max_steps && !::testing::Test::HasFatalFailure(); ++steps)
      step();
    EXPECT_TRUE(scheduler_.idle()) << "still busy after " << steps << " steps";
    EXPECT_EQ(scheduler_.blocks().num_free(), config_.num_kv_blocks);
    for (const auto& [sequence, goal] : goal_) {
      const bool complete = static_cast<int64_t>(sequence->tokens.size()) == goal;
      EXPECT_TRUE(complete || removed_.count(sequence->group));
    }
    return steps;
  }

  void remove(PromptGroup& group) {
    removed_[&group] = true;
    scheduler_.remove(group);
    check_ownership();
  }

  Scheduler& scheduler() { return scheduler_; }
  std::deque<PromptGroup>& groups() { return groups_; }
  int64_t prompt_rows() const { return prompt_rows_; }
  int64_t num_steps_ahead() const { return num_steps_ahead_; }

 private:
  void compute(const StepPlan& plan) {
    for (const BlockCopy& copy : plan.copies) cells(copy.to) = cells(copy.from);
    ASSERT_LE(plan.num_rows, config_.max_batched_tokens);
    for (const ScheduledRows& run : plan.rows) write(run);
    for (const ScheduledRows& run : plan.rows) read(run);
    scheduler_.commit();
    prompt_rows_ += std::count_if(plan.rows.begin(), plan.rows.end(),
                                  [](const ScheduledRows& r) { return !r.sequence; });
  }
  /// Each row computes the token that the plan before draws for its sequence.
  static void check_follows(const StepPlan& next, const StepPlan& plan) {
    ASSERT_TRUE(next.is_decode());
    ASSERT_EQ(next.sources.size(), next.rows.size());
    for (size_t i = 0; i < next.rows.size(); ++i) {
      const Sequence* sequence = next.rows[i].sequence;
      ASSERT_EQ(plan.samples.at(static_cast<size_t>(next.sources[i])).sequence, sequence);
      ASSERT_EQ(next.rows[i].start, sequence->length());
    }
  }
  struct Cell {
    const void* owner = nullptr;  // the group for prompt positions, else the sequence
    int64_t position = -1;
    bool operator==(const Cell&) const = default;
  };
  std::vector<Cell>& cells(int32_t block) { return cells_[static_cast<size_t>(block)]; }

  static Cell expected(const ScheduledRows& run, int64_t p) {
    if (p < run.group->prompt_length()) return {run.group, p};
    return {run.sequence, p};
  }
  static const std::vector<int32_t>& table(const ScheduledRows& run) {
    return run.sequence ? run.sequence->block_table : run.group->block_table;
  }

  void write(const ScheduledRows& run) {
    ASSERT_GT(run.num_rows, 0);
    ASSERT_GE(static_cast<int64_t>(table(run).size()),
              KvBlockManager::blocks_for(run.start + run.num_rows));
    for (int64_t p = run.start; p < run.start + run.num_rows; ++p) {
      const int32_t block = table(run)[static_cast<size_t>(p / kBlock)];
      ASSERT_EQ(scheduler_.blocks().num_owners(block), 1) << "writes to a shared block";
      cells(block)[static_cast<size_t>(p % kBlock)] = expected(run, p);
    }
  }
  void read(const ScheduledRows& run) {
    for (int64_t p = 0; p < run.start + run.num_rows; ++p) {
      const int32_t block = table(run)[static_cast<size_t>(p / kBlock)];
      ASSERT_EQ(cells(block)[static_cast<size_t>(p % kBlock)], expected(run, p))
          << "position " << p << " is not in the cache";
    }
  }

  void check_ownership() {
    std::vector<int32_t> owners(cells_.size(), 0);
    const auto count = [&](const std::vector<int32_t>& blocks) {
      for (int32_t block : blocks) ++owners[static_cast<size_t>(block)];
    };
    for (const PromptGroup& group : groups_) {
      count(group.block_table);
      for (const Sequence& s : group.sequences) {
        count(s.block_table);
        ASSERT_EQ(s.status == SequenceStatus::kRunning, !s.block_table.empty());
      }
    }
    int64_t num_free = 0;
    for (size_t block = 0; block < owners.size(); ++block) {
      ASSERT_EQ(scheduler_.blocks().num_owners(static_cast<int32_t>(block)), owners[block]);
      num_free += owners[block] == 0;
    }
    ASSERT_EQ(scheduler_.blocks().num_free(), num_free);
  }

  void check_order() {
    const auto age = [](const Sequence& s) { return std::pair(s.group->age, s.sample_index); };
    const auto& running = scheduler_.running();
    for (size_t i = 1; i < running.size(); ++i) ASSERT_LT(age(*running[i - 1]), age(*running[i]));
    if (running.empty()) return;
    for (const PromptGroup& group : groups_)
      for (const Sequence* s : group.waiting) ASSERT_GT(age(*s), age(*running.back()));
  }

  SchedulerConfig config_;
  const bool runs_ahead_;
  Scheduler scheduler_;
  const StepPlan* computed_ = nullptr;  // whose tokens have not been drawn
  std::vector<std::vector<Cell>> cells_;
  std::deque<PromptGroup> groups_;
  std::map<const Sequence*, int64_t> goal_;
  std::map<const PromptGroup*, bool> removed_;
  int64_t prompt_rows_ = 0, num_steps_ahead_ = 0;
};

TEST(SchedulerTest, ComputesAPromptOnceForItsWholeGroup) {
  FakeEngine engine({.num_kv_blocks = 100, .max_num_seqs = 16, .max_batched_tokens = 256});
  engine.add(40, 8, {5});
  engine.step();
  engine.step();
  // Two prompt blocks held by the group are gone: the full one is shared, the other copied.
  EXPECT_EQ(engine.scheduler().running().size(), 8u);
  EXPECT_EQ(engine.scheduler().blocks().num_free(), 100 - 1 - 8);
  engine.run();
  EXPECT_EQ(engine.prompt_rows(), 1);
}

TEST(SchedulerTest, ComputesAPromptOnceEvenIfItsGroupStartsLittleByLittle) {
  FakeEngine engine({.num_kv_blocks = 100, .max_num_seqs = 2, .max_batched_tokens = 256});
  engine.add(40, 7, {5, 9, 3});
  engine.run();
  EXPECT_EQ(engine.prompt_rows(), 1);
}

TEST(SchedulerTest, SplitsALongPromptIntoChunks) {
  FakeEngine engine({.num_kv_blocks = 100, .max_num_seqs = 4, .max_batched_tokens = 16});
  engine.add(100, 2, {3});
  engine.run();
  EXPECT_EQ(engine.prompt_rows(), 7);
}

TEST(SchedulerTest, DecodesWhileOtherPromptsAreComputed) {
  FakeEngine engine({.num_kv_blocks = 100, .max_num_seqs = 4, .max_batched_tokens = 16});
  engine.add(8, 2, {20});
  engine.step();
  engine.step();
  engine.add(100, 2, {3});
  const StepPlan plan = engine.scheduler().schedule();
  ASSERT_EQ(plan.rows.size(), 3u);
  EXPECT_NE(plan.rows[0].sequence, nullptr);
  EXPECT_NE(plan.rows[1].sequence, nullptr);
  EXPECT_EQ(plan.rows[2].sequence, nullptr);
  EXPECT_EQ(plan.rows[2].num_rows, 14);
  EXPECT_EQ(plan.samples.size(), 2u);
}

TEST(SchedulerTest, PreemptsTheYoungestSequenceAndResumesIt) {
  FakeEngine engine({.num_kv_blocks = 5, .max_num_seqs = 4, .max_batched_tokens = 64});
  engine.add(20, 1, {100});
  engine.add(20, 1, {100});
  engine.run();
  EXPECT_GT(engine.scheduler().num_preemptions(), 0);
  const auto& groups = engine.groups();
  EXPECT_EQ(groups[0].sequences[0].tokens.size(), 100u);
}

TEST(SchedulerTest, FinishesWithJustTheBlocksOfOneSequence) {
  for (int64_t prompt : {1, 31, 32, 33, 64, 90}) {
    for (int64_t tokens : {1, 2, 32, 70}) {
      const int64_t blocks = KvBlockManager::blocks_for(prompt + tokens);
      FakeEngine engine({.num_kv_blocks = blocks, .max_num_seqs = 8, .max_batched_tokens = 8});
      for (int i = 0; i < 3; ++i) engine.add(prompt, 3, {tokens, 1});
      engine.run();
      ASSERT_FALSE(HasFatalFailure()) << "prompt " << prompt << ", tokens " << tokens;
    }
  }
}

TEST(SchedulerTest, RefusesWhatCanNeverFit) {
  Scheduler scheduler({.num_kv_blocks = 4, .max_num_seqs = 1, .max_batched_tokens = 1});
  EXPECT_NO_THROW(scheduler.check_fits(4 * kBlock));
  try {
    scheduler.check_fits(4 * kBlock + 1);
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("need 5 key-value blocks; the worker has 4"),
              std::string::npos)
        << e.what();
  }
}

TEST(SchedulerTest, RefusesAnUnusableConfiguration) {
  EXPECT_THROW(Scheduler({.num_kv_blocks = 0, .max_num_seqs = 1, .max_batched_tokens = 1}),
               std::invalid_argument);
  EXPECT_THROW(Scheduler({.num_kv_blocks = 1, .max_num_seqs = 0, .max_batched_tokens = 1}),
               std::invalid_argument);
  EXPECT_THROW(Scheduler({.num_kv_blocks = 1, .max_num_seqs = 2, .max_batched_tokens = 1}),
               std::invalid_argument);
}

TEST(SchedulerTest, RemoveFreesEverythingInEveryState) {
  FakeEngine engine({.num_kv_blocks = 12, .max_num_seqs = 3, .max_batched_tokens = 16});
  PromptGroup& a = engine.add(40, 4, {50});
  PromptGroup& b = engine.add(40, 2, {50});
  for (int i = 0; i < 6; ++i) engine.step();
  engine.remove(a);
  engine.step();
  engine.remove(b);
  EXPECT_TRUE(engine.scheduler().idle());
  EXPECT_EQ(engine.scheduler().blocks().num_free(), 12);
}

/// Two sequences that have drawn their first tokens, and what runs them.
class SchedulerAheadTest : public ::testing::Test {
 protected:
  SchedulerAheadTest() { start(100, 8, {30, 5}); }
  /// @param num_tokens  of each of the two.
  void start(int64_t num_blocks, int64_t prompt_length, const std::vector<int64_t>& num_tokens) {
    engine_ = std::make_unique<FakeEngine>(
        SchedulerConfig{.num_kv_blocks = num_blocks, .max_num_seqs = 3, .max_batched_tokens = 64},
        true);
    for (int64_t n : num_tokens) group_ = &engine_->add(prompt_length, 1, {n});
    engine_->step();
    engine_->step();
  }
  const StepPlan* ahead() {
    EXPECT_TRUE(engine_->scheduler().schedule().is_decode());
    engine_->scheduler().commit();
    return engine_->scheduler().schedule_ahead();
  }
  std::unique_ptr<FakeEngine> engine_;
  PromptGroup* group_ = nullptr;  // of the second
};

TEST_F(SchedulerAheadTest, ItIsTheSameSequencesAPositionFurther) {
  const StepPlan* plan = ahead();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->sources, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(plan->rows[1].start, group_->sequences[0].length());
}

TEST_F(SchedulerAheadTest, WhoeverHasEndedOrWillIsLeftOut) {
  engine_->scheduler().schedule();
  engine_->scheduler().commit();
  engine_->scheduler().finish(group_->sequences[0]);
  const StepPlan* plan = engine_->scheduler().schedule_ahead();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->sources, (std::vector<int32_t>{0}));

  start(100, 8, {2, 30});  // the first draws its last token
  plan = ahead();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->sources, (std::vector<int32_t>{1}));
  start(100, 8, {2, 2});
  EXPECT_EQ(ahead(), nullptr);
}

TEST_F(SchedulerAheadTest, WhereSomebodyMayComeInItWaits) {
  engine_->scheduler().schedule();
  engine_->scheduler().commit();
  engine_->add(8, 1, {5});
  EXPECT_EQ(engine_->scheduler().schedule_ahead(), nullptr);
}

TEST_F(SchedulerAheadTest, WhoCouldNotComeInBeforeDoesNotNow) {
  start(100, 8, {30, 30, 30, 30});  // three run
  EXPECT_NE(ahead(), nullptr);
  start(100, 8, {30, 30, 2, 30});  // the third will make room
  EXPECT_EQ(ahead(), nullptr);
}

TEST_F(SchedulerAheadTest, WhereABlockIsLackingItWaits) {
  start(2, kBlock - 2, {10});  // the step behind the one that is drawn needs the second
  EXPECT_NE(ahead(), nullptr);
  start(2, kBlock - 2, {2, 10});
  EXPECT_EQ(ahead(), nullptr);
}

TEST_F(SchedulerAheadTest, BehindAPreemptionItWaits) {
  start(5, 20, {100, 100});
  Scheduler& scheduler = engine_->scheduler();
  while (scheduler.num_preemptions() == 0) {
    const StepPlan& plan = scheduler.schedule();
    scheduler.commit();
    if (scheduler.num_preemptions() > 0) break;
    for (const ScheduledSample& sample : plan.samples) sample.sequence->tokens.push_back(2);
  }
  EXPECT_EQ(scheduler.running().size(), 1u);
  EXPECT_EQ(scheduler.schedule_ahead(), nullptr);
}

TEST_F(SchedulerAheadTest, MostStepsAreMadeAhead) {
  const int steps = engine_->run();
  EXPECT_GT(engine_->num_steps_ahead(), steps - 3);
}

class SchedulerLoadTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(, SchedulerLoadTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "AStepAhead" : "StepByStep"; });

TEST_P(SchedulerLoadTest, KeepsItsInvariants) {
  int64_t num_steps_ahead = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    const int64_t blocks = 4 + rng.below(30);
    const int64_t max_num_seqs = 1 + rng.below(12);
    FakeEngine engine({.num_kv_blocks = blocks,
                       .max_num_seqs = max_num_seqs,
                       .max_batched_tokens = max_num_seqs + rng.below(60)},
                      GetParam());
    for (int round = 0; round < 120; ++round) {
      if (rng.below(3) == 0) {
        const int64_t longest = blocks * kBlock;
        const int64_t prompt =
            1 + rng.below(static_cast<uint32_t>(std::min<int64_t>(longest - 1, 90)));
        std::vector<int64_t> tokens;
        for (int i = 0; i < 3; ++i)
          tokens.push_back(
              1 + rng.below(static_cast<uint32_t>(std::min<int64_t>(longest - prompt, 120))));
        engine.add(prompt, 1 + rng.below(5), tokens);
      }
      if (rng.below(20) == 0 && !engine.groups().empty())
        engine.remove(engine.groups()[rng.below(static_cast<uint32_t>(engine.groups().size()))]);
      if (!engine.scheduler().idle()) engine.step();
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", round " << round;
    }
    engine.run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    num_steps_ahead += engine.num_steps_ahead();
  }
  EXPECT_EQ(num_steps_ahead > 1000, GetParam()) << num_steps_ahead;
}

}  // namespace
}  // namespace moerl
