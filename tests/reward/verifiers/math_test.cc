#include "reward/verifiers/math.h"

#include <gtest/gtest.h>

#include "reward/verifiers/multiple_choice.h"

namespace moerl::reward {
namespace {

using S = VerdictStatus;

template <class V>
Verdict judge_with(const std::string& response, const std::string& gold,
                   const Options& options = {}) {
  return V().score({response, gold, "", "", ""}, options, WorkBudget());
}
S math(const std::string& response, const std::string& gold, const Options& options = {}) {
  return judge_with<MathVerifier>(response, gold, options).status;
}

TEST(MathVerifierTest, GradesTheBox) {
  const Verdict verdict = judge_with<MathVerifier>("so it is $\\boxed{\\frac{2}{4}}$.", "\\frac12");
  EXPECT_EQ(verdict.status, S::kCorrect);
  EXPECT_EQ(verdict.score, 1);
  EXPECT_EQ(verdict.extracted, "\\frac{2}{4}");
  EXPECT_EQ(math("\\boxed{3}", "2"), S::kIncorrect);
  EXPECT_EQ(math("\\boxed{1+}", "2"), S::kUnparsable);
  EXPECT_EQ(math("\\boxed{}", "2"), S::kNoAnswer);
  EXPECT_EQ(math("\\boxed{" + std::string(400, '9') + "}", "2"), S::kLimit);
  EXPECT_EQ(math("it is 2", "2"), S::kNoAnswer);
  EXPECT_EQ(math("", "2"), S::kNoAnswer);
  EXPECT_EQ(math("The answer is 2 because of symmetry.", "2"), S::kCorrect);
}

TEST(MathVerifierTest, GradesOnlyWhatFollowsTheThoughts) {
  EXPECT_EQ(math("<think>\\boxed{2}</think> \\boxed{3}", "2"), S::kIncorrect);
  EXPECT_EQ(math("<think>\\boxed{2}</think> done", "2"), S::kNoAnswer);
  EXPECT_EQ(math("\\boxed{2}", "2", {{"prefix_open_think", "true"}}), S::kNoAnswer);
}

TEST(MathVerifierTest, AnUnusableGoldHasNoScore) {
  for (const char* gold : {"", " ", "\\frac{1}{", "Answer is forty three."}) {
    const Verdict verdict = judge_with<MathVerifier>("\\boxed{43}", gold);
    EXPECT_EQ(verdict.status, S::kGoldError) << gold;
    EXPECT_TRUE(is_unscorable(verdict)) << gold;
  }
  EXPECT_EQ(math("\\boxed{43}", "We see that it is $\\boxed{43}$."), S::kCorrect);
}

TEST(MathVerifierTest, SeveralBoxesCountForSeveralAnswers) {
  EXPECT_EQ(math("\\boxed{1} and \\boxed{2}", "1,2"), S::kCorrect);
  EXPECT_EQ(math("\\boxed{1} and \\boxed{2}", "2"), S::kCorrect);
  EXPECT_EQ(math("\\boxed{1} and \\boxed{2}", "1"), S::kIncorrect);
  EXPECT_EQ(math("\\boxed{1} and then \\boxed{2}", "1,2"), S::kIncorrect);
}

TEST(MathVerifierTest, ContainmentIsNoEquality) {
  for (const char* extraction : {"any", "none", "box_or_marker"}) {
    EXPECT_NE(math("\\boxed{A or B or C}", "A", {{"extraction", extraction}}), S::kCorrect);
    EXPECT_NE(math("\\boxed{1, 2, 3, 4}", "3", {{"extraction", extraction}}), S::kCorrect);
  }
  EXPECT_NE(math("1-1/e", "1+1/e", {{"extraction", "any"}}), S::kCorrect);
  EXPECT_EQ(math("(C) because", "C", {{"extraction", "none"}}), S::kCorrect);
}

TEST(MathVerifierTest, ChecksItsOptions) {
  const MathVerifier verifier;
  EXPECT_THROW(verifier.check_options({{"extraction", "magic"}}), std::invalid_argument);
  EXPECT_THROW(verifier.check_options({{"decimal_rounding", "2"}}), std::invalid_argument);
  EXPECT_THROW(verifier.check_options({{"unknown", "1"}}), std::invalid_argument);
  EXPECT_EQ(math("\\boxed{40}", "40\\%", {{"optional_percent", "false"}}), S::kIncorrect);
  EXPECT_EQ(judge_with<MathVerifier>("\\boxed{4}", "4", {{"format_weight", "0.5"}}).score, 1.5);
}

TEST(MultipleChoiceVerifierTest, ComparesLetters) {
  auto judge = [](const std::string& response, const std::string& gold,
                  const Options& options = {}) {
    return judge_with<MultipleChoiceVerifier>(response, gold, options).status;
  };
  EXPECT_EQ(judge("Answer: B", "B"), S::kCorrect);
  EXPECT_EQ(judge("Answer: (B) Rome", "(B)"), S::kCorrect);
  EXPECT_EQ(judge("Answer: A\nNo. Answer: **B**", "B"), S::kCorrect);
  EXPECT_EQ(judge("Answer: C", "B"), S::kIncorrect);
  EXPECT_EQ(judge("Answer: E", "B"), S::kUnparsable);
  EXPECT_EQ(judge("Answer: E", "E", {{"num_choices", "5"}}), S::kCorrect);
  EXPECT_EQ(judge("B", "B"), S::kNoAnswer);
  EXPECT_EQ(judge("\\boxed{B}", "B", {{"extraction", "box"}}), S::kCorrect);
  EXPECT_EQ(judge("Answer: B", "1", {{"gold_is_index", "true"}}), S::kCorrect);
  // Several right choices: all of them and no other, in any order.
  for (const char* gold : {"AC", "C A", "A, C"}) {
    EXPECT_EQ(judge("Answer: A, C", gold), S::kCorrect);
    EXPECT_EQ(judge("Answer: (C) and (A).", gold), S::kCorrect);
    EXPECT_EQ(judge("Answer: A", gold), S::kIncorrect);
    EXPECT_EQ(judge("Answer: ABC", gold), S::kIncorrect);
  }
  EXPECT_EQ(judge("Answer: AC", "A"), S::kUnparsable);
  for (const char* hedge : {"Answer: A or B", "Answer: A, B", "Answer: A/B", "Answer: (A) (B)"})
    EXPECT_EQ(judge(hedge, "A"), S::kUnparsable) << hedge;
  EXPECT_EQ(judge("answer: (b)", "B"), S::kCorrect);
  EXPECT_EQ(judge("The final answer is $\\boxed{\\text{B}}$.", "B"), S::kCorrect);
  for (const char* gold : {"", "E", "Rome"})
    EXPECT_EQ(judge("Answer: B", gold), S::kGoldError);
  EXPECT_EQ(judge("Answer: B", "4", {{"gold_is_index", "true"}}), S::kGoldError);
}

}  // namespace
}  // namespace moerl::reward
