#include "experiments/evaluation/summary.h"

#include <gtest/gtest.h>

#include "experiments/evaluation/compare.h"
#include "experiments/evaluation/results.h"
#include "tests/experiments/evaluation/evaluation_records.h"

namespace moerl::eval {
namespace {

using testing::problem_of;
using testing::record_of;

const AnswerEquivalence kByText = [](const EvalRecord&, const EvalRecord&) { return false; };

std::map<std::string, double> values_of(const Summary& summary) {
  std::map<std::string, double> values;
  for (const Estimate& e : summary.estimates) values[e.name] = e.value;
  return values;
}

std::vector<EvalRecord> records_of(const std::vector<std::vector<std::string>>& answers,
                                   const std::string& suite = "s") {
  std::vector<EvalRecord> records;
  for (size_t p = 0; p < answers.size(); ++p)
    for (size_t k = 0; k < answers[p].size(); ++k)
      records.push_back(
          record_of(static_cast<int64_t>(p), static_cast<int64_t>(k), answers[p][k], suite));
  return records;
}

TEST(SummaryTest, EveryFigureIsThatOfItsDefinition) {
  const auto records =
      records_of({{"good", "bad", "good", "good"}, {"bad", "bad", "good", ""}, {"", "", "", ""}});
  SummaryOptions options;
  options.equivalent = kByText;
  const Summary s = summarize(records, options);
  const std::map<std::string, double> expected = {
      {"pass@1[avg-of-4]", (0.75 + 0.25) / 3},
      {"pass@2", (1 + 0.5) / 3},
      {"pass@4", 2.0 / 3},
      {"pass^2", 0.5 / 3},  // C(3,2) / C(4,2) of the first problem
      {"pass^4", 0},
      {"cons@2", 0.5 / 3},  // the first problem's two votes tie
      {"cons@4", 1.0 / 3}};
  const auto values = values_of(s);
  EXPECT_EQ(values.size(), expected.size());
  for (const auto& [name, value] : expected) EXPECT_NEAR(values.at(name), value, 1e-12) << name;
  EXPECT_EQ(s.accuracy().method, "bootstrap");
  EXPECT_LE(s.accuracy().interval.low, s.accuracy().value);
  EXPECT_GE(s.accuracy().interval.high, s.accuracy().value);
  EXPECT_NEAR(s.no_answer, 5.0 / 12, 1e-12);
  EXPECT_NEAR(s.mean_score, 4.0 / 12, 1e-12);
  EXPECT_EQ(s.response.mean, 20);
  EXPECT_EQ(s.thinking.median, 4);
  EXPECT_EQ(s.answer.p95, 26);
  EXPECT_EQ(s.reflections, 1);
}

TEST(SummaryTest, OneSampleAProblemHasAWilsonInterval) {
  const Summary s = summarize(records_of({{"good"}, {"bad"}, {"good"}}), {});
  ASSERT_EQ(s.estimates.size(), 1u);
  EXPECT_EQ(s.accuracy().name, "pass@1[avg-of-1]");
  EXPECT_EQ(s.accuracy().method, "wilson");
  EXPECT_NEAR(s.accuracy().interval.low, wilson95(2, 3).low, 1e-15);
}

TEST(SummaryTest, ATieGoesToTheFirstIfAsked) {
  SummaryOptions options;
  options.equivalent = kByText;
  options.tie_rule = TieRule::kFirstSeen;
  EXPECT_EQ(values_of(summarize(records_of({{"good", "bad"}}), options)).at("cons@2"), 1);
  EXPECT_EQ(values_of(summarize(records_of({{"bad", "good"}}), options)).at("cons@2"), 0);
  for (TieRule rule : {TieRule::kAverage, TieRule::kFirstSeen}) {
    options.tie_rule = rule;
    const std::string said = rule == TieRule::kAverage ? "average" : "first";
    EXPECT_NE(results_json({}, {summarize(records_of({{"good", "bad"}}), options)})
                  .find("\"ties\": \"" + said + "\""),
              std::string::npos);
  }
}

TEST(SummaryTest, UnscorableSamplesAreWrongAndCountedApart) {
  auto records = records_of({{"good", "good"}});
  records[1].status = reward::VerdictStatus::kGoldError;
  records[1].score = 0;
  const Summary s = summarize(records, {});
  EXPECT_EQ(s.accuracy().value, 0.5);
  EXPECT_EQ(s.unscorable, 0.5);
  EXPECT_EQ(s.num_unscorable, 1);
  EXPECT_EQ(s.mean_score, 1);
}

TEST(SummaryTest, ProblemsWithDifferentNumbersOfSamplesAreRefused) {
  EXPECT_THROW(summarize(records_of({{"good", "good"}, {"bad"}}), {}), std::invalid_argument);
  EXPECT_THROW(summarize({}, {}), std::invalid_argument);
}

TEST(SummaryTest, SuitesAndTheirGroupsHaveFiguresOfTheirOwn) {
  auto records = records_of({{"good"}, {"bad"}}, "a");
  for (EvalRecord& r : records_of({{"good"}}, "b")) records.push_back(r);
  std::vector<ProblemRecord> problems = {problem_of(0, "a"), problem_of(1, "a"),
                                         problem_of(0, "b")};
  problems[0].group = "easy";
  problems[1].group = "hard";
  const auto summaries = summarize_all(problems, records, {}, nullptr);
  ASSERT_EQ(summaries.size(), 4u);
  EXPECT_EQ(summaries[0].suite + summaries[0].group, "a");
  EXPECT_EQ(summaries[0].accuracy().value, 0.5);
  EXPECT_EQ(summaries[1].group, "easy");
  EXPECT_EQ(summaries[1].accuracy().value, 1);
  EXPECT_EQ(summaries[2].accuracy().value, 0);
  EXPECT_EQ(summaries[3].suite + summaries[3].group, "b");
  const std::string table = to_table(summaries);
  for (const char* part : {"50.0 [", "easy", "b  "})
    EXPECT_NE(table.find(part), std::string::npos) << table;
}

TEST(CompareTest, PairsProblemsByIdAndNamesTheFlips) {
  EvalFiles a, b;
  for (int64_t p = 0; p < 4; ++p) a.problems.push_back(problem_of(p));
  // B has the same problems in another order, one with another truth, and one of its own.
  for (int64_t p : {3, 2, 1, 9}) b.problems.push_back(problem_of(p));
  for (size_t i = 0; i < 4; ++i) b.problems[i].problem = static_cast<int64_t>(i);
  b.problems[0].ground_truth = "other";
  a.records = records_of({{"good", "good"}, {"bad", "bad"}, {"good", "bad"}, {"good", "good"}});
  const auto add_b = [&](int64_t problem, int64_t id, const std::vector<std::string>& answers) {
    for (size_t k = 0; k < answers.size(); ++k) {
      EvalRecord r = record_of(problem, static_cast<int64_t>(k), answers[k]);
      r.id = "p" + std::to_string(id);
      b.records.push_back(r);
    }
  };
  add_b(0, 3, {"bad", "bad"});
  add_b(1, 2, {"bad", "bad"});
  add_b(2, 1, {"good", "good"});
  add_b(3, 9, {"good", "good"});
  const auto comparisons = compare(a, b);
  ASSERT_EQ(comparisons.size(), 1u);
  const SuiteComparison& c = comparisons[0];
  EXPECT_EQ(c.num_problems, 2);  // p1 and p2
  EXPECT_EQ(c.a, 0.25);
  EXPECT_EQ(c.b, 0.5);
  EXPECT_EQ(c.paired.difference, 0.25);
  ASSERT_EQ(c.gained.size(), 1u);
  EXPECT_EQ(c.gained[0].id, "p1");
  ASSERT_EQ(c.lost.size(), 1u);
  EXPECT_EQ(c.lost[0].id, "p2");
  EXPECT_EQ(c.mcnemar_p, 1);
  EXPECT_NE(to_table(comparisons, "base", "tuned", 5).find("+25.0 points"), std::string::npos);
  b.problems.clear();
  b.records.clear();
  EXPECT_THROW(compare(a, b), ConfigError);
}

}  // namespace
}  // namespace moerl::eval
