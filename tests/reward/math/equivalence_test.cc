#include "reward/math/equivalence.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "reward/math/limits.h"
#include "tests/reward/math/cases.h"

namespace moerl::reward::math {
namespace {

Outcome compare(std::string_view a, std::string_view b, const MathOptions& options = {}) {
  return compare_answers(a, b, options).outcome;
}
std::string repeated(std::string_view part, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += part;
  return out;
}

TEST(MathEquivalenceTest, AcceptsEqualAnswersEitherWay) {
  for (const auto& [a, b] : kEqualPairs) {
    EXPECT_EQ(compare(a, b), Outcome::kEqual) << a << " and " << b;
    EXPECT_EQ(compare(b, a), Outcome::kEqual) << b << " and " << a;
  }
}

TEST(MathEquivalenceTest, RefusesDifferentAnswersEitherWay) {
  for (const auto& [a, b] : kDifferentPairs) {
    EXPECT_NE(compare(a, b), Outcome::kEqual) << a << " and " << b;
    EXPECT_NE(compare(b, a), Outcome::kEqual) << b << " and " << a;
  }
}

// Every member of one pair against every member of the others: more refusals, and a verdict that
// does not depend on the order.
TEST(MathEquivalenceTest, IsSymmetricOnAllPairsOfCases) {
  const size_t count = std::size(kEqualPairs);
  for (size_t i = 0; i < count; ++i)
    for (size_t j = i + 1; j < count; j += 7) {
      const char *a = kEqualPairs[i].a, *b = kEqualPairs[j].b;
      EXPECT_EQ(compare(a, b), compare(b, a)) << a << " and " << b;
    }
}

TEST(MathEquivalenceTest, EveryLeniencyIsAnOption) {
  MathOptions strict;
  strict.optional_percent = strict.optional_units = strict.unordered_lists = false;
  strict.optional_brackets = strict.optional_name = strict.sets_as_relations = false;
  strict.decimal_rounding = DecimalRounding::kOff;
  for (const auto& [a, b] : {Pair{"40\\%", "40"},
                             {"5\\text{ cm}", "5"},
                             {"1,2", "2,1"},
                             {"(1,2)", "1,2"},
                             {"x=5", "5"},
                             {"0<x<1", "(0,1)"},
                             {"0.333333333", "1/3"}}) {
    EXPECT_EQ(compare(a, b), Outcome::kEqual) << a << " and " << b;
    EXPECT_EQ(compare(a, b, strict), Outcome::kDifferent) << a << " and " << b;
    EXPECT_EQ(compare(a, a, strict), Outcome::kEqual) << a;
  }
  MathOptions lenient;
  lenient.optional_base = lenient.decimal_comma = true;
  lenient.decimal_rounding = DecimalRounding::kDigits;
  for (const auto& [a, b] : {Pair{"25_8", "25"}, {"1,5", "1.5"}, {"33.3", "\\frac{100}{3}"}}) {
    EXPECT_EQ(compare(a, b), Outcome::kDifferent) << a << " and " << b;
    EXPECT_EQ(compare(a, b, lenient), Outcome::kEqual) << a << " and " << b;
  }
  EXPECT_EQ(compare("33.4", "\\frac{100}{3}", lenient), Outcome::kDifferent);
}

TEST(MathEquivalenceTest, TellsWhichSideCannotBeRead) {
  EXPECT_EQ(compare("", "5"), Outcome::kGoldUnparsable);
  EXPECT_EQ(compare("\\frac{1}{", "5"), Outcome::kGoldUnparsable);
  EXPECT_EQ(compare("Answer is forty three.", "43"), Outcome::kGoldUnparsable);
  EXPECT_EQ(compare("\\text{Answer is forty three.}", "43"), Outcome::kDifferent);
  EXPECT_EQ(compare("5", ""), Outcome::kUnparsable);
  EXPECT_EQ(compare("5", "1+"), Outcome::kUnparsable);
  EXPECT_EQ(compare("5", "5)"), Outcome::kUnparsable);
  EXPECT_EQ(compare("5", repeated("9", 300)), Outcome::kLimit);
}

/// Answers made to keep a grader busy. Each must end at once, by an answer or by a limit.
TEST(MathEquivalenceTest, BoundsItsWork) {
  const std::string answers[] = {
      "5^{5^{5^{5^{5^{5}}}}}",
      "10^{10^{10^{10}}}",
      "9^{9^{9}}",
      "((((((10!)!)!)!)!)!)!",
      "3000!^{3000}",
      "3000!^{60000}",
      "10!" + repeated("!", 200),
      repeated("(", 2000) + "1" + repeated(")", 2000),
      repeated("(", 4000),
      repeated("{", 4000),
      repeated("\\frac{", 600),
      repeated("\\sqrt", 800) + "2",
      repeated("-", 4000) + "1",
      repeated("2^", 1300) + "2",
      repeated("|", 4000),
      repeated("\\sin", 900) + "x",
      repeated("9", 4096),
      "0." + repeated("3", 4000),
      "1e9999",
      "1e99999",
      "2^{100000000000}",
      "(1+x)^{1000000}",
      "(a+b+c+d+e+f+g+h)^{200}",
      "(x+1)^{12}(y+1)^{12}(z+1)^{12}",
      "\\sum_{k=1}^{1000000000} k",
      "\\prod_{k=1}^{9999} \\sum_{j=1}^{9999} k j",
      "\\sin(10^{10^{8}})",
      "e^{e^{e^{e^{e^{e}}}}}",
      "\\binom{100000000}{50000000}",
      "\\begin{pmatrix}" + repeated("1&", 1000) + "1\\end{pmatrix}",
      "\\{" + repeated("\\sqrt{2},", 300) + "1\\}",
      repeated("1,", 1000) + "2",
      repeated("\\begin{matrix}", 200),
      repeated("\\left\\{", 500),
      repeated("1/", 900) + "1",
      repeated("x+", 1000) + "x",
      repeated("\\pm 1", 700),
      repeated("[0,1)\\cup", 400) + "[0,1)",
      repeated("cm ", 1300),
  };
  for (const std::string& answer : answers)
    for (const std::string& gold : {std::string("7"), std::string("x+\\sqrt{2}"), answer}) {
      const auto begin = std::chrono::steady_clock::now();
      compare(gold, answer);
      const auto time = std::chrono::steady_clock::now() - begin;
      // Far above what is measured, so that a busy machine does not fail it.
      EXPECT_LT(time, std::chrono::seconds(5)) << answer.substr(0, 60);
    }
}

TEST(MathEquivalenceTest, RefusesWhatExceedsEachLimit) {
  EXPECT_EQ(compare("7", repeated("(", kMaxDepth + 1) + "7" + repeated(")", kMaxDepth + 1)),
            Outcome::kLimit);
  EXPECT_EQ(compare("7", std::string(kMaxAnswerBytes + 1, ' ') + "7"), Outcome::kLimit);
  EXPECT_EQ(compare("7", "\\sum_{k=1}^{20000} \\sin k"), Outcome::kLimit);
  EXPECT_EQ(compare("7", "\\sum_{k=1}^{5000} \\sum_{j=1}^{5000} \\sin(kj)"), Outcome::kLimit);
  EXPECT_EQ(compare("7", "\\pi^{5^{5^5}}"), Outcome::kLimit);
  EXPECT_EQ(compare("7", "(((12!)!)!)!"), Outcome::kLimit);
  EXPECT_EQ(compare("7", "e^{10^{30}}"), Outcome::kLimit);
}

TEST(MathEquivalenceTest, GivesTheSameVerdictOnEveryThread) {
  std::vector<std::vector<Outcome>> seen(4);
  std::vector<std::thread> threads;
  for (auto& outcomes : seen)
    threads.emplace_back([&outcomes] {
      for (const auto& [a, b] : kEqualPairs) outcomes.push_back(compare(a, b));
      for (const auto& [a, b] : kDifferentPairs) outcomes.push_back(compare(a, b));
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& outcomes : seen) EXPECT_EQ(outcomes, seen[0]);
}

TEST(MathEquivalenceTest, NamesTheTypeOfAnAnswer) {
  EXPECT_EQ(answer_type("1,2"), AnswerType::kSeveral);
  EXPECT_EQ(answer_type("\\{1\\}"), AnswerType::kSeveral);
  EXPECT_EQ(answer_type("\\text{odd}"), AnswerType::kWords);
  EXPECT_EQ(answer_type("(D) 42"), AnswerType::kChoice);
  EXPECT_EQ(answer_type("\\text{(D)}"), AnswerType::kChoice);
  EXPECT_EQ(answer_type("x"), AnswerType::kValue);
  EXPECT_EQ(answer_type("1+"), AnswerType::kNone);
}

}  // namespace
}  // namespace moerl::reward::math
