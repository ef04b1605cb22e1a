#include "reward/scorer.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "common/error.h"
#include "tests/reward/test_verifiers.h"

namespace moerl::reward {
namespace {

/// A future for what Scorer::submit calls back.
struct Outcome {
  std::shared_ptr<std::promise<Verdict>> promise = std::make_shared<std::promise<Verdict>>();
  std::future<Verdict> future = promise->get_future();

  Scorer::Done done() {
    return [promise = promise](std::exception_ptr error, Verdict verdict) {
      if (error)
        promise->set_exception(error);
      else
        promise->set_value(std::move(verdict));
    };
  }
};

class ScorerTest : public testing::Test {
 protected:
  // Destroyed after the scorer, which would otherwise wait for what hangs.
  std::shared_ptr<HangingVerifier> hanging_ = std::make_shared<HangingVerifier>();

  Scorer make(const ScorerConfig& config) { return Scorer(make_test_registry(hanging_), config); }
  void TearDown() override { hanging_->release(); }
};

/// Waits until a condition on the scorer's counters holds; fails after a minute.
template <typename Condition>
void wait_for(const Condition& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    std::this_thread::yield();
  }
}

TEST_F(ScorerTest, ScoresABatchInOrder) {
  Scorer scorer = make({.num_threads = 3});
  std::vector<ScoreItem> items;
  for (uint64_t i = 0; i < 200; ++i)
    items.push_back(countdown_item(i, i % 2 == 0 ? "(1+2)*3" : "1+2+3"));
  std::promise<std::vector<Verdict>> promise;
  scorer.submit_batch(std::move(items), {}, [&](std::exception_ptr, std::vector<Verdict> verdicts) {
    promise.set_value(std::move(verdicts));
  });
  const std::vector<Verdict> verdicts = promise.get_future().get();
  ASSERT_EQ(verdicts.size(), 200u);
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(verdicts[i].id, i);
    EXPECT_EQ(verdicts[i].status, i % 2 == 0 ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect);
  }
  EXPECT_EQ(scorer.stats().num_scored, 200u);
}

TEST_F(ScorerTest, AnswersAnEmptyBatch) {
  Scorer scorer = make({});
  bool is_done = false;
  scorer.submit_batch({}, {}, [&](std::exception_ptr error, std::vector<Verdict> verdicts) {
    is_done = !error && verdicts.empty();
  });
  EXPECT_TRUE(is_done);
}

TEST_F(ScorerTest, CutsAVerifierThatHangs) {
  Scorer scorer = make({.num_threads = 1, .deadline_ms = 30});
  Outcome hung, next;
  scorer.submit(hanging_item(7, "hang"), {}, hung.done());
  scorer.submit(hanging_item(8, "fine"), {}, next.done());
  const Verdict verdict = hung.future.get();
  EXPECT_EQ(verdict.id, 7u);
  EXPECT_EQ(verdict.status, VerdictStatus::kTimeout);
  EXPECT_EQ(verdict.score, 0);
  EXPECT_EQ(verdict.parts, (std::map<std::string, double>{{"accuracy", 0}}));
  EXPECT_EQ(verdict.detail, "verifier 'hanging' was cut at 30 ms");
  EXPECT_FALSE(is_unscorable(verdict));
  // The only thread hangs, yet a new one scores the next sample.
  EXPECT_EQ(next.future.get().status, VerdictStatus::kCorrect);
  EXPECT_EQ(scorer.stats().num_timeouts, 1u);
  EXPECT_EQ(scorer.stats().num_hung_threads, 1);
  hanging_->release();
  wait_for([&] { return scorer.stats().num_hung_threads == 0; });
  Outcome last;
  scorer.submit(hanging_item(9, "fine"), {}, last.done());
  EXPECT_EQ(last.future.get().status, VerdictStatus::kCorrect);
}

TEST_F(ScorerTest, SpendsTheBudgetAtTheDeadline) {
  Scorer scorer = make({.num_threads = 1, .deadline_ms = 20});
  Outcome outcome;
  scorer.submit(hanging_item(1, "spin"), {}, outcome.done());
  EXPECT_EQ(outcome.future.get().status, VerdictStatus::kTimeout);
  wait_for([&] { return scorer.stats().num_hung_threads == 0; });
  EXPECT_EQ(scorer.stats().num_timeouts, 1u);
}

TEST_F(ScorerTest, DoesNotCountWaitingAgainstTheDeadline) {
  Scorer scorer = make({.num_threads = 1, .deadline_ms = 60});
  std::vector<Outcome> outcomes(4);
  for (int i = 0; i < 3; ++i) scorer.submit(hanging_item(i, "spin"), {}, outcomes[i].done());
  // It waits three deadlines long.
  scorer.submit(hanging_item(3, "fine"), {}, outcomes[3].done());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(outcomes[i].future.get().status, VerdictStatus::kTimeout);
  EXPECT_EQ(outcomes[3].future.get().status, VerdictStatus::kCorrect);
}

TEST_F(ScorerTest, RefusesWorkWhenTooManyThreadsHang) {
  Scorer scorer = make({.num_threads = 1, .deadline_ms = 20, .max_hung_threads = 1});
  Outcome first, second, third;
  scorer.submit(hanging_item(1, "hang"), {}, first.done());
  scorer.submit(hanging_item(2, "hang"), {}, second.done());
  scorer.submit(hanging_item(3, "fine"), {}, third.done());
  EXPECT_EQ(first.future.get().status, VerdictStatus::kTimeout);
  EXPECT_EQ(second.future.get().status, VerdictStatus::kTimeout);
  EXPECT_THROW(third.future.get(), ResourceExhausted);
  EXPECT_THROW(scorer.submit(hanging_item(4, "fine"), {}, nullptr), ResourceExhausted);

  hanging_->release();
  wait_for([&] { return scorer.stats().num_hung_threads == 0; });
  Outcome last;
  scorer.submit(hanging_item(5, "fine"), {}, last.done());
  EXPECT_EQ(last.future.get().status, VerdictStatus::kCorrect);
}

TEST_F(ScorerTest, BoundsTheQueueAndTakesBatchesWholeOrNotAtAll) {
  Scorer scorer = make({.num_threads = 1, .queue_capacity = 2});
  Outcome running, waiting;
  scorer.submit(hanging_item(1, "hang"), {}, running.done());
  hanging_->wait_until_begun(1);
  scorer.submit(hanging_item(2, "fine"), {}, waiting.done());
  EXPECT_THROW(scorer.submit_batch({hanging_item(3, ""), hanging_item(4, "")}, {}, nullptr),
               ResourceExhausted);
  EXPECT_EQ(scorer.stats().num_queued, 1);
  hanging_->release();
  EXPECT_EQ(running.future.get().status, VerdictStatus::kCorrect);
  EXPECT_EQ(waiting.future.get().status, VerdictStatus::kCorrect);
}

TEST_F(ScorerTest, TurnsAnExceptionIntoAnUnscorableVerdict) {
  Scorer scorer = make({});
  Outcome outcome;
  scorer.submit(hanging_item(1, "throw"), {}, outcome.done());
  const Verdict verdict = outcome.future.get();
  EXPECT_EQ(verdict.status, VerdictStatus::kInternalError);
  EXPECT_EQ(verdict.detail, "a defect");
  EXPECT_TRUE(is_unscorable(verdict));
  EXPECT_EQ(scorer.stats().num_internal_errors, 1u);
}

TEST_F(ScorerTest, DropsWhatWasCancelledWhileWaiting) {
  Scorer scorer = make({.num_threads = 1});
  Outcome running, waiting;
  std::stop_source cancel;
  scorer.submit(hanging_item(1, "hang"), {}, running.done());
  hanging_->wait_until_begun(1);
  scorer.submit(hanging_item(2, "fine"), cancel.get_token(), waiting.done());
  cancel.request_stop();
  hanging_->release();
  EXPECT_THROW(waiting.future.get(), Cancelled);
  EXPECT_EQ(hanging_->num_begun(), 1);
}

TEST_F(ScorerTest, EndsEverythingWhenDestroyed) {
  Outcome hung, waiting;
  {
    Scorer scorer = make({.num_threads = 1, .deadline_ms = 50});
    scorer.submit(hanging_item(1, "hang"), {}, hung.done());
    hanging_->wait_until_begun(1);
    scorer.submit(hanging_item(2, "fine"), {}, waiting.done());
  }
  EXPECT_EQ(hung.future.get().status, VerdictStatus::kTimeout);
  EXPECT_THROW(waiting.future.get(), Cancelled);
}

TEST_F(ScorerTest, RefusesBadRequestsAtOnce) {
  Scorer scorer = make({});
  try {
    scorer.submit({1, "mathematics", {}, {}}, {}, nullptr);
    FAIL();
  } catch (const std::invalid_argument& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("unknown verifier 'mathematics', expected one of: ")) << text;
    for (const auto& each : scorer.registry().list())
      EXPECT_NE(text.find(each->name()), std::string::npos) << text;
  }
  EXPECT_THROW(scorer.submit({1, "countdown", {}, {{"x", "1"}}}, {}, nullptr),
               std::invalid_argument);
  EXPECT_THROW(make({.num_threads = 0}), std::invalid_argument);
  EXPECT_THROW(make({.deadline_ms = 0}), std::invalid_argument);
  EXPECT_THROW(make({.queue_capacity = 0}), std::invalid_argument);
}

TEST(VerifierRegistryTest, RefusesATakenName) {
  auto registry = make_verifier_registry();
  const size_t size = registry->list().size();
  EXPECT_THROW(registry->add(registry->get("gsm8k")), std::invalid_argument);
  EXPECT_THROW(registry->add(nullptr), std::invalid_argument);
  EXPECT_EQ(registry->list().size(), size);
}

TEST(VerdictTest, NamesEveryStatus) {
  EXPECT_EQ(status_name(VerdictStatus::kCorrect), "correct");
  EXPECT_EQ(status_name(VerdictStatus::kInternalError), "internal_error");
  for (VerdictStatus status : kVerdictStatuses) {
    EXPECT_FALSE(status_name(status).empty());
    EXPECT_EQ(is_unscorable(status), status >= VerdictStatus::kGoldError);
  }
}

}  // namespace
}  // namespace moerl::reward
