#include "reward/verifiers/arithmetic.h"

#include <gtest/gtest.h>

#include "common/rng.h"

namespace moerl::reward {
namespace {

using Outcome = Arithmetic::Outcome;

mpq_class value_of(const std::string& text) {
  const Arithmetic result = parse_arithmetic(text);
  EXPECT_EQ(result.outcome, Outcome::kParsed) << text << ": " << result.detail;
  EXPECT_TRUE(result.value.has_value()) << text;
  return result.value.value_or(mpq_class(-999));
}

TEST(ArithmeticTest, FollowsPrecedenceAndAssociativity) {
  EXPECT_EQ(value_of("1+2*3"), 7);
  EXPECT_EQ(value_of("(1+2)*3"), 9);
  EXPECT_EQ(value_of("8-3-2"), 3);
  EXPECT_EQ(value_of("8/4/2"), 1);
  EXPECT_EQ(value_of("8/4*2"), 4);
  EXPECT_EQ(value_of("2-3*4+5"), -5);
}

TEST(ArithmeticTest, AppliesSignsToTheNextFactor) {
  EXPECT_EQ(value_of("-3+5"), 2);
  EXPECT_EQ(value_of("-3*-4"), 12);
  EXPECT_EQ(value_of("2*-(3+4)"), -14);
  EXPECT_EQ(value_of("--+-3"), -3);
  EXPECT_EQ(value_of("6/-2-1"), -4);
}

TEST(ArithmeticTest, IsExactInRationals) {
  EXPECT_EQ(value_of("1/3+1/3+1/3"), 1);
  EXPECT_EQ(value_of("8/(3-8/3)"), 24);
  EXPECT_EQ(value_of("6*34/11-1"), mpq_class(193, 11));
  EXPECT_EQ(value_of("99999999999999999999*99999999999999999999"),
            mpq_class("9999999999999999999800000000000000000001"));
}

TEST(ArithmeticTest, ReadsUnicodeOperatorsAndSpace) {
  EXPECT_EQ(value_of(" 6 \u00D7 4 \u00F7 3\n\u2212\t1 "), 7);
  EXPECT_EQ(value_of("\u22123"), -3);
}

TEST(ArithmeticTest, ListsLiteralsWithoutTheClaim) {
  const Arithmetic result = parse_arithmetic("(12 + 7)*12 = 228");
  EXPECT_EQ(result.literals, (std::vector<mpz_class>{12, 7, 12}));
  ASSERT_TRUE(result.claimed.has_value());
  EXPECT_EQ(*result.claimed, 228);
  EXPECT_EQ(*parse_arithmetic("3-5 = \u22122").claimed, -2);
}

TEST(ArithmeticTest, HasNoValueAfterADivisionByZero) {
  for (const char* text : {"1/0", "1/(2-2)", "0/0", "3+1/(1-1)*2"}) {
    const Arithmetic result = parse_arithmetic(text);
    EXPECT_EQ(result.outcome, Outcome::kParsed) << text;
    EXPECT_FALSE(result.value.has_value()) << text;
  }
}

TEST(ArithmeticTest, RefusesMalformedText) {
  for (const char* text : {"",
                           " ",
                           "+",
                           "1+",
                           "*1",
                           "1**2",
                           "4//2",
                           "1 2",
                           "2(3)",
                           "(2)(3)",
                           "(2)3",
                           "(1",
                           "1)",
                           "()",
                           "1.5",
                           "1,000",
                           "1e3",
                           "0x10",
                           "2^3",
                           "a",
                           "1+b",
                           "1=",
                           "=1",
                           "1=2=3",
                           "1=1+0",
                           "(1=1)",
                           "1%2",
                           "\u00D7",
                           "1\u00B2",
                           "\xFF",
                           "__import__('os')",
                           "1;2",
                           "1/(0",
                           "1!"})
    EXPECT_EQ(parse_arithmetic(text).outcome, Outcome::kMalformed) << text;
  EXPECT_EQ(parse_arithmetic(std::string_view("1\0", 2)).outcome, Outcome::kMalformed);
  EXPECT_EQ(parse_arithmetic("1**2").detail, "'*' stands where a number belongs");
}

TEST(ArithmeticTest, BoundsItsWork) {
  const std::string deep(100'000, '(');
  EXPECT_EQ(parse_arithmetic(deep).outcome, Outcome::kTooLarge);
  EXPECT_EQ(parse_arithmetic(deep + "1" + std::string(100'000, ')')).outcome, Outcome::kTooLarge);
  EXPECT_EQ(parse_arithmetic(std::string(65, '1')).outcome, Outcome::kTooLarge);
  EXPECT_EQ(parse_arithmetic(std::string(600, '-') + "1").outcome, Outcome::kTooLarge);
  EXPECT_EQ(parse_arithmetic(std::string(65, '(') + "1" + std::string(65, ')')).outcome,
            Outcome::kTooLarge);
  EXPECT_EQ(value_of(std::string(64, '(') + "1" + std::string(64, ')')), 1);
  EXPECT_EQ(value_of(std::string(64, '9')), mpq_class(std::string(64, '9')));
}

/// A random expression as text, and its value by recursion over fractions of its own.
struct RandomExpression {
  std::string text;
  mpz_class numerator, denominator;  // denominator 0: no value
  int level;                         // 0 sum, 1 product, 2 factor
};

RandomExpression combine(char op, const RandomExpression& a, const RandomExpression& b, Rng& rng) {
  static const std::map<char, std::vector<std::string>> kSpellings = {
      {'+', {"+"}}, {'-', {"-", "\u2212"}}, {'*', {"*", "\u00D7"}}, {'/', {"/", "\u00F7"}}};
  const int level = op == '+' || op == '-' ? 0 : 1;
  auto wrap = [&](const RandomExpression& e, int least) {
    return e.level < least || rng.below(8) == 0 ? "(" + e.text + ")" : e.text;
  };
  const auto& spellings = kSpellings.at(op);
  RandomExpression out;
  out.level = level;
  out.text = wrap(a, level) + std::string(rng.below(3), ' ') +
             spellings[rng.below(static_cast<uint32_t>(spellings.size()))] +
             std::string(rng.below(2), '\n') + wrap(b, level + 1);
  if (op == '+' || op == '-') {
    out.numerator = a.numerator * b.denominator;
    const mpz_class other = b.numerator * a.denominator;
    op == '+' ? out.numerator += other : out.numerator -= other;
    out.denominator = a.denominator * b.denominator;
  } else if (op == '*') {
    out.numerator = a.numerator * b.numerator;
    out.denominator = a.denominator * b.denominator;
  } else {
    out.numerator = a.numerator * b.denominator;
    out.denominator = a.denominator * b.numerator * (b.denominator == 0 ? 0 : 1);
  }
  if (a.denominator == 0 || b.denominator == 0) out.denominator = 0;
  return out;
}

RandomExpression random_expression(Rng& rng, int depth, std::vector<mpz_class>& literals) {
  if (depth == 0 || rng.below(4) == 0) {
    const uint32_t n = rng.below(rng.below(2) == 0 ? 4 : 1000);
    literals.emplace_back(n);
    return {std::to_string(n), n, 1, 2};
  }
  const RandomExpression a = random_expression(rng, depth - 1, literals);
  if (rng.below(10) == 0)
    return {"-" + (a.level < 2 ? "(" + a.text + ")" : a.text), -a.numerator, a.denominator, 2};
  const RandomExpression b = random_expression(rng, depth - 1, literals);
  return combine("+-*/"[rng.below(4)], a, b, rng);
}

TEST(ArithmeticTest, AgreesWithAnIndependentEvaluation) {
  Rng rng(1);
  int num_undefined = 0;
  for (int i = 0; i < 3000; ++i) {
    std::vector<mpz_class> literals;
    const RandomExpression expected = random_expression(rng, 4, literals);
    const Arithmetic got = parse_arithmetic(expected.text);
    ASSERT_EQ(got.outcome, Outcome::kParsed) << expected.text << ": " << got.detail;
    ASSERT_EQ(got.literals, literals) << expected.text;
    ASSERT_EQ(got.value.has_value(), expected.denominator != 0) << expected.text;
    if (got.value) {
      ASSERT_EQ(got.value->get_num() * expected.denominator,
                got.value->get_den() * expected.numerator)
          << expected.text;
    }
    num_undefined += !got.value;
  }
  EXPECT_GT(num_undefined, 10);
}

TEST(ArithmeticTest, SurvivesRandomText) {
  Rng rng(2);
  const std::string alphabet =
      "0123456789+-*/()= .,\xC3\x97\xE2\x88\x92"
      "ab";
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (uint32_t size = rng.below(40); size > 0; --size)
      text += alphabet[rng.below(static_cast<uint32_t>(alphabet.size()))];
    const Arithmetic result = parse_arithmetic(text);
    EXPECT_EQ(result.detail.empty(), result.outcome == Outcome::kParsed) << text;
  }
}

}  // namespace
}  // namespace moerl::reward
