// Rewards of several parts: how they add up, and what each part is told when.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "reward/composite/group_scoring.h"
#include "reward/verifier_registry.h"

namespace moerl::reward {
namespace {

Verdict verdict_of(VerdictStatus status, double score, std::map<std::string, double> parts = {}) {
  return {
      .score = score, .status = status, .extracted = "e", .parts = std::move(parts), .detail = "d"};
}
constexpr VerdictStatus kCorrect = VerdictStatus::kCorrect, kIncorrect = VerdictStatus::kIncorrect;

const RewardParts kParts = {{.name = "acc", .verifier = "countdown"},
                            {.name = "shape", .verifier = "format", .weight = 0.5},
                            {.name = "lang", .verifier = "x", .weight = 2, .gate = Gate::kAnswered},
                            {.name = "short", .verifier = "y", .gate = Gate::kCorrect}};

TEST(Combine, AddsWeightedPartsAndKeepsTheFirstStatus) {
  const Verdict all = combine(
      kParts, {verdict_of(kCorrect, 1, {{"accuracy", 1}, {"format", 0}}), verdict_of(kIncorrect, 1),
               verdict_of(kIncorrect, 0.25), verdict_of(kIncorrect, -0.5)});
  EXPECT_EQ(all.score, 1 + 0.5 + 0.5 - 0.5);
  EXPECT_EQ(all.status, kCorrect);
  EXPECT_EQ(all.parts, (std::map<std::string, double>{{"acc", 1},
                                                      {"acc/accuracy", 1},
                                                      {"acc/format", 0},
                                                      {"lang", 0.25},
                                                      {"shape", 1},
                                                      {"short", -0.5}}));
}

TEST(Combine, ShutGatesCountNothing) {
  const auto score = [](VerdictStatus first) {
    return combine(kParts, {verdict_of(first, 0), verdict_of(kCorrect, 1), verdict_of(kCorrect, 1),
                            verdict_of(kCorrect, 1)})
        .score;
  };
  EXPECT_EQ(score(kCorrect), 3.5);
  EXPECT_EQ(score(kIncorrect), 2.5);
  EXPECT_EQ(score(VerdictStatus::kNoAnswer), 0.5);
  EXPECT_EQ(score(VerdictStatus::kTimeout), 0.5);
}

TEST(Combine, AnUnscorablePartMakesTheSampleUnscorableUnlessItIsNotRequired) {
  RewardParts parts = {kParts[0], kParts[1]};
  Verdict broken = verdict_of(VerdictStatus::kInternalError, 7);
  broken.detail = "crashed";
  const Verdict out = combine(parts, {verdict_of(kCorrect, 1), broken});
  EXPECT_EQ(out.status, VerdictStatus::kInternalError);
  EXPECT_EQ(out.detail, "crashed");
  EXPECT_EQ(out.score, 0);
  parts[1].required = false;
  const Verdict kept = combine(parts, {verdict_of(kCorrect, 1), broken});
  EXPECT_EQ(kept.status, kCorrect);
  EXPECT_EQ(kept.score, 1);
  EXPECT_FALSE(kept.parts.contains("shape"));
}

TEST(Combine, ScoresByStatusReplaceTheVerifiersOwn) {
  RewardParts parts = {
      {.verifier = "v", .score_by_status = {{"correct", 1}, {"incorrect", -1}, {"no_answer", -2}}}};
  const auto score = [&](VerdictStatus status) {
    return combine(parts, {verdict_of(status, 0.1)}).score;
  };
  EXPECT_EQ(score(kCorrect), 1);
  EXPECT_EQ(score(kIncorrect), -1);
  EXPECT_EQ(score(VerdictStatus::kNoAnswer), -2);
  EXPECT_EQ(score(VerdictStatus::kTimeout), -1);
  EXPECT_EQ(score(VerdictStatus::kGoldError), 0);
}

TEST(Combine, OneUnnamedPartIsTheVerifiersVerdict) {
  const Verdict verdict = verdict_of(kCorrect, 1.1, {{"accuracy", 1}, {"format", 1}});
  EXPECT_EQ(combine({{.verifier = "v"}}, {verdict}), verdict);
}

TEST(CheckParts, RefusesWhatDoesNotFit) {
  EXPECT_NO_THROW(check_parts(kParts));
  EXPECT_THROW(check_parts({}), std::invalid_argument);
  EXPECT_THROW(check_parts({kParts[0], kParts[0]}), std::invalid_argument);
  EXPECT_THROW(check_parts({kParts[2]}), std::invalid_argument);
  EXPECT_THROW(check_parts({{.name = "a"}}), std::invalid_argument);
  EXPECT_THROW(check_parts({{.verifier = "v", .score_by_status = {{"correct", 1}}}}),
               std::invalid_argument);
  EXPECT_THROW(
      check_parts({{.verifier = "v",
                    .score_by_status = {{"correct", 1}, {"incorrect", 0}, {"gold_error", 0}}}}),
      std::invalid_argument);
}

TEST(RewardPlan, RoutesByDataSource) {
  RewardPlan plan{.parts = {{.verifier = "all"}}, .routes = {{"m", {{.verifier = "math"}}}}};
  EXPECT_EQ(plan.parts_for("m")[0].verifier, "math");
  EXPECT_EQ(plan.parts_for("other")[0].verifier, "all");
  plan.parts.clear();
  EXPECT_THROW(plan.parts_for("other"), std::invalid_argument);
}

/// Scores a group of three with verdicts that are given by hand.
class GroupScoringTest : public testing::Test {
 protected:
  struct Request {
    ScoreItem item;
    std::function<void(std::exception_ptr, Verdict)> done;
  };
  struct End {
    std::exception_ptr error;
    Verdict verdict;
  };

  void start(RewardParts parts) {
    std::vector<SampleNeeds> needs;
    for (const RewardPart& part : parts)
      needs.push_back(part.verifier == "len"      ? SampleNeeds{.correctness = true, .group = true}
                      : part.verifier == "cosine" ? SampleNeeds{.correctness = true}
                                                  : SampleNeeds{});
    scoring_ = std::make_shared<GroupScoring>(
        std::make_shared<const RewardParts>(std::move(parts)), needs,
        Sample{.ground_truth = "g", .data_source = "d"}, 3,
        [this](ScoreItem item, auto done) {
          requests_.push_back({std::move(item), std::move(done)});
        },
        statistics_,
        [this](size_t index, std::exception_ptr error, Verdict verdict) {
          EXPECT_TRUE(ends_.emplace(index, End{error, std::move(verdict)}).second);
        });
    scoring_->add(0, "aa", {1, 2});
    scoring_->add(1, "b", {3});
    scoring_->add(2, "cccc", {4, 5, 6, 7});
  }
  /// Answers the oldest request of a verifier for a completion.
  void answer(const std::string& verifier, uint64_t index, VerdictStatus status, double score,
              std::exception_ptr error = nullptr) {
    for (auto it = requests_.begin(); it != requests_.end(); ++it) {
      if (it->item.verifier != verifier || it->item.id != index) continue;
      const Request request = std::move(*it);
      requests_.erase(it);
      return request.done(error, verdict_of(status, score));
    }
    ADD_FAILURE() << "nothing was asked of " << verifier << " for " << index;
  }
  /// Answers as the verifiers of the project do.
  void answer_all() {
    const auto registry = make_verifier_registry();
    while (!requests_.empty()) {
      const Request request = std::move(requests_.front());
      requests_.pop_front();
      const ScoreItem& item = request.item;
      request.done(nullptr, registry->get(item.verifier)->score(item.sample, item.options, {}));
    }
  }
  size_t num_asked(const std::string& verifier) const {
    return static_cast<size_t>(
        std::count_if(requests_.begin(), requests_.end(),
                      [&](const Request& request) { return request.item.verifier == verifier; }));
  }

  std::deque<Request> requests_;
  std::map<size_t, End> ends_;
  std::shared_ptr<VerifierStatistics> statistics_ = std::make_shared<VerifierStatistics>();
  std::shared_ptr<GroupScoring> scoring_;
};

TEST_F(GroupScoringTest, AsksForAPartWhenWhatItNeedsIsKnown) {
  start({{.name = "acc", .verifier = "acc"},
         {.name = "shape", .verifier = "shape"},
         {.name = "cosine", .verifier = "cosine"},
         {.name = "len", .verifier = "len"}});
  EXPECT_EQ(num_asked("acc"), 3u);
  EXPECT_EQ(num_asked("shape"), 3u);
  EXPECT_EQ(num_asked("cosine") + num_asked("len"), 0u);
  answer("acc", 1, kIncorrect, 0);
  EXPECT_EQ(num_asked("cosine"), 1u);
  EXPECT_EQ(requests_.back().item.sample.is_correct, false);
  EXPECT_EQ(requests_.back().item.sample.num_tokens, 1);
  answer("acc", 0, kCorrect, 1);
  EXPECT_EQ(num_asked("len"), 0u);
  answer("acc", 2, kCorrect, 1);
  EXPECT_EQ(num_asked("len"), 3u);
  for (const Request& request : requests_) {
    if (request.item.verifier != "len") continue;
    EXPECT_EQ(request.item.sample.group,
              (std::vector<GroupMember>{{2, 2, true}, {1, 1, false}, {4, 4, true}}));
  }
  EXPECT_TRUE(ends_.empty());
  for (uint64_t i = 0; i < 3; ++i)
    for (const char* part : {"shape", "cosine", "len"}) answer(part, i, kCorrect, 0.5);
  ASSERT_EQ(ends_.size(), 3u);
  EXPECT_EQ(ends_.at(0).verdict.score, 2.5);
  EXPECT_EQ(ends_.at(1).verdict.score, 1.5);
}

TEST_F(GroupScoringTest, LeavesOutWhatCannotBeScored) {
  start({{.name = "acc", .verifier = "acc"}, {.name = "len", .verifier = "len"}});
  answer("acc", 0, VerdictStatus::kGoldError, 0);
  answer("acc", 1, kCorrect, 1);
  answer("acc", 2, kCorrect, 1, std::make_exception_ptr(std::runtime_error("gone")));
  ASSERT_EQ(ends_.size(), 2u);
  EXPECT_EQ(ends_.at(0).verdict.status, VerdictStatus::kGoldError);
  EXPECT_TRUE(ends_.at(2).error);
  ASSERT_EQ(num_asked("len"), 1u);
  EXPECT_EQ(requests_.back().item.sample.group.size(), 1u);
  answer("len", 1, kCorrect, 0);
  EXPECT_EQ(ends_.at(1).verdict.score, 1);
}

TEST_F(GroupScoringTest, DoesNotAskBehindAShutGate) {
  start({{.name = "acc", .verifier = "acc"},
         {.name = "cosine", .verifier = "cosine", .gate = Gate::kCorrect}});
  answer("acc", 0, kIncorrect, 0);
  EXPECT_EQ(ends_.size(), 1u);
  answer("acc", 1, kCorrect, 1);
  EXPECT_EQ(num_asked("cosine"), 1u);
}

TEST_F(GroupScoringTest, KimisLengthRewardOfAGroup) {
  start({{.name = "acc", .verifier = "exact_match", .options = {{"extraction", "text"}}},
         {.name = "len", .verifier = "len"}});
  answer_all();
  ASSERT_EQ(ends_.size(), 3u);
  // All are wrong: none may gain by being short.
  EXPECT_EQ(ends_.at(1).verdict.score, 0);
  EXPECT_EQ(ends_.at(2).verdict.score, -0.5);
  EXPECT_DOUBLE_EQ(ends_.at(0).verdict.score, 0);
}

TEST_F(GroupScoringTest, CountsEachVerifiersCalls) {
  start({{.name = "acc", .verifier = "acc"}});
  answer("acc", 0, VerdictStatus::kTimeout, 0);
  answer("acc", 1, kCorrect, 0);
  answer("acc", 2, kCorrect, 0, std::make_exception_ptr(std::runtime_error("gone")));
  const std::map<std::string, double> metrics = statistics_->take_metrics();
  EXPECT_EQ(metrics.at("reward/acc/timeout_ratio"), 0.5);
  EXPECT_LE(metrics.at("reward/acc/latency_s/mean"), metrics.at("reward/acc/latency_s/max"));
  EXPECT_TRUE(statistics_->take_metrics().empty());
}

TEST(VerifierStatistics, TakesTheNearestRank) {
  VerifierStatistics statistics;
  for (int i = 100; i >= 1; --i) statistics.add("v", i, kCorrect);
  const auto metrics = statistics.take_metrics();
  EXPECT_EQ(metrics.at("reward/v/latency_s/mean"), 50.5);
  EXPECT_EQ(metrics.at("reward/v/latency_s/p95"), 95);
  EXPECT_EQ(metrics.at("reward/v/latency_s/max"), 100);
}

}  // namespace
}  // namespace moerl::reward
