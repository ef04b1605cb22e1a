#include "experiments/evaluation/metrics/consensus.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/metric_cases.h"

namespace moerl::eval {
namespace {

using Votes = std::vector<std::optional<Vote>>;

Votes votes_for(const std::vector<std::string>& answers, const std::string& gold) {
  Votes votes;
  for (const std::string& answer : answers)
    votes.push_back(answer.empty() ? std::nullopt : std::optional<Vote>({answer, answer == gold}));
  return votes;
}
double by_text(const Votes& votes, TieRule rule) {
  return consensus(
      votes, [](size_t, size_t) { return false; }, rule);
}

TEST(ConsensusTest, TheLargestClusterDecides) {
  EXPECT_EQ(by_text(votes_for({"7", "8", "7"}, "7"), TieRule::kAverage), 1);
  EXPECT_EQ(by_text(votes_for({"8", "8", "7"}, "7"), TieRule::kAverage), 0);
  EXPECT_EQ(by_text(votes_for({"", "", "7"}, "7"), TieRule::kAverage), 1);
}

TEST(ConsensusTest, TiesAreAveragedOrGoToTheFirst) {
  const Votes two = votes_for({"8", "7", "7", "8", "9"}, "7");
  EXPECT_EQ(by_text(two, TieRule::kAverage), 0.5);
  EXPECT_EQ(by_text(two, TieRule::kFirstSeen), 0);
  const Votes three = votes_for({"7", "8", "9"}, "7");
  EXPECT_NEAR(by_text(three, TieRule::kAverage), 1.0 / 3, 1e-15);
  EXPECT_EQ(by_text(three, TieRule::kFirstSeen), 1);
}

TEST(ConsensusTest, NoVoteIsWrong) {
  EXPECT_EQ(by_text(votes_for({"", ""}, "7"), TieRule::kAverage), 0);
  EXPECT_EQ(by_text({}, TieRule::kFirstSeen), 0);
}

TEST(ConsensusTest, EquivalenceIsClosedTransitively) {
  // 1/2 ~ 0.5 and 0.5 ~ 50%, but nobody says that 1/2 ~ 50%.
  Votes votes = votes_for({"1/2", "3", "50%", "3", "0.5"}, "x");
  const auto equivalent = [&](size_t i, size_t j) {
    const std::string &a = votes[i]->answer, &b = votes[j]->answer;
    return (a == "1/2" && b == "0.5") || (a == "50%" && b == "0.5");
  };
  votes[0]->is_correct = true;
  EXPECT_EQ(consensus(votes, equivalent, TieRule::kAverage), 1);
}

TEST(ConsensusTest, CorrectAnswersAreOneClusterWithoutAsking) {
  Votes votes = votes_for({"9", "1/2", "9", "0.5", "2/4"}, "x");
  for (size_t i : {1u, 3u, 4u}) votes[i]->is_correct = true;
  EXPECT_EQ(by_text(votes, TieRule::kAverage), 1);
}

TEST(ConsensusTest, AgreesWithTheRecordedCases) {
  const auto cases = testing::metric_cases("cons_at_k");
  if (cases.empty()) GTEST_SKIP() << "there is no " << testing::metric_cases_path();
  for (const auto& c : cases) {
    std::vector<std::string> answers;
    for (const auto& vote : c.at("input").at("votes"))
      answers.push_back(vote.is_null() ? "" : vote.get<std::string>());
    const Votes votes = votes_for(answers, c.at("input").at("gold"));
    EXPECT_NEAR(by_text(votes, TieRule::kAverage), c.at("expected").at("expected_tie_average"),
                1e-12)
        << c;
    EXPECT_NEAR(by_text(votes, TieRule::kFirstSeen), c.at("expected").at("expected_first_seen"),
                1e-12)
        << c;
  }
}

}  // namespace
}  // namespace moerl::eval
