#include "reward/verifiers/countdown.h"

#include <algorithm>

#include "common/check.h"
#include "common/json.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/arithmetic.h"

namespace moerl::reward {
namespace {

using nlohmann::json;

constexpr size_t kMaxGoldBytes = 1 << 20, kMaxGoldDigits = 64, kMaxNumbers = 256;

struct CountdownOptions {
  AnswerScoring scoring;
  bool allow_equals;
};

CountdownOptions parse_options(const Options& options) {
  OptionReader reader("countdown", options);
  CountdownOptions parsed{read_answer_scoring(reader, 0.1), reader.flag("allow_equals", true)};
  reader.finish();
  return parsed;
}

struct Puzzle {
  std::vector<mpz_class> numbers;  // sorted
  mpz_class target;
};

/// An integer, as JSON number or as decimal text. @throws std::invalid_argument.
mpz_class to_integer(const json& value, std::string_view what) {
  std::string digits =
      value.is_string() ? std::string(strip(value.get<std::string>())) : value.dump();
  const size_t begin = digits.starts_with('-') ? 1 : 0;
  check(digits.size() > begin && digits.size() <= kMaxGoldDigits &&
            std::all_of(digits.begin() + begin, digits.end(),
                        [](char c) { return '0' <= c && c <= '9'; }),
        what, " is ", truncate_utf8(digits, 40), ", expected an integer");
  return mpz_class(digits, 10);
}

json parse_json(const std::string& text, std::string_view what) {
  check(text.size() <= kMaxGoldBytes, what, " has ", text.size(), " bytes, expected at most ",
        kMaxGoldBytes);
  json value = try_parse_json(text);
  check(!value.is_discarded(), what, " is not JSON");
  return value;
}

/// @throws std::invalid_argument with what is wrong with the row.
Puzzle parse_puzzle(const Sample& sample) {
  json gold = parse_json(sample.ground_truth, "ground_truth");
  if (!gold.is_object()) gold = json{{"target", gold}};
  json extra = json::object();
  if (!sample.extra_info_json.empty()) extra = parse_json(sample.extra_info_json, "extra_info");

  auto find = [&](std::initializer_list<const char*> keys) -> const json* {
    for (const json* object : {&gold, &extra})
      for (const char* key : keys)
        if (object->is_object() && object->contains(key)) return &(*object)[key];
    return nullptr;
  };
  const json* target = find({"target"});
  const json* numbers = find({"numbers", "nums"});
  check(target != nullptr, "neither ground_truth nor extra_info has a target");
  check(numbers != nullptr, "neither ground_truth nor extra_info has numbers");
  check(numbers->is_array() && !numbers->empty() && numbers->size() <= kMaxNumbers,
        "numbers is not a list of 1 to ", kMaxNumbers, " integers");

  Puzzle puzzle{{}, to_integer(*target, "target")};
  for (const json& number : *numbers) {
    puzzle.numbers.push_back(to_integer(number, "a number"));
    check(puzzle.numbers.back() >= 0, "a number is ", puzzle.numbers.back(), ", expected >= 0");
  }
  std::sort(puzzle.numbers.begin(), puzzle.numbers.end());
  return puzzle;
}

/// Why the numbers are not used as given; empty if they are.
std::string usage_error(std::vector<mpz_class> used, const std::vector<mpz_class>& given) {
  std::sort(used.begin(), used.end());
  auto missing_from = [](const std::vector<mpz_class>& a, const std::vector<mpz_class>& b) {
    std::vector<mpz_class> rest;
    std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(rest));
    return rest;
  };
  auto text = [](const mpz_class& n) { return std::string(truncate_utf8(n.get_str(), 40)); };
  if (const auto extra = missing_from(used, given); !extra.empty())
    return concat("number ", text(extra[0]), " is used more often than given");
  if (const auto unused = missing_from(given, used); !unused.empty())
    return concat("number ", text(unused[0]), " is used less often than given");
  return "";
}

/// Why a well formed expression is wrong; empty if it is right.
std::string find_error(const Arithmetic& expression, const Puzzle& puzzle) {
  if (std::string error = usage_error(expression.literals, puzzle.numbers); !error.empty())
    return error;
  if (!expression.value) return "division by zero";
  if (*expression.value != puzzle.target)
    return concat("the value is ", truncate_utf8(expression.value->get_str(), 80),
                  ", the target is ", puzzle.target);
  if (expression.claimed && *expression.claimed != puzzle.target)
    return concat("the number after '=' is ", truncate_utf8(expression.claimed->get_str(), 80),
                  ", the target is ", puzzle.target);
  return "";
}

}  // namespace

std::string_view CountdownVerifier::description() const {
  return "arithmetic with each given number used exactly once, equal to the target; options "
         "allow_equals=true, accuracy_weight=1, format_weight=0.1, format_rule=answer, "
         "prefix_open_think=false";
}

std::vector<std::string> CountdownVerifier::part_names() const { return answer_part_names(); }

void CountdownVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict CountdownVerifier::score(const Sample& sample, const Options& options,
                                 const WorkBudget&) const {
  const CountdownOptions parsed = parse_options(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(parsed.scoring, sample.response, status, extracted, std::move(detail));
  };

  Puzzle puzzle;
  try {
    puzzle = parse_puzzle(sample);
  } catch (const std::invalid_argument& error) {
    return verdict(VerdictStatus::kGoldError, "", error.what());
  }
  const auto graded = graded_text(sample.response, parsed.scoring.prefix_open_think);
  const auto answer = graded ? last_answer(*graded) : std::nullopt;
  if (!answer || answer->empty()) return verdict(VerdictStatus::kNoAnswer, "", "");

  const Arithmetic expression = parse_arithmetic(*answer);
  if (expression.outcome == Arithmetic::Outcome::kTooLarge)
    return verdict(VerdictStatus::kLimit, *answer, expression.detail);
  if (expression.outcome == Arithmetic::Outcome::kMalformed)
    return verdict(VerdictStatus::kUnparsable, *answer, expression.detail);
  if (expression.claimed && !parsed.allow_equals)
    return verdict(VerdictStatus::kUnparsable, *answer, "'=' is not allowed");

  std::string error = find_error(expression, puzzle);
  const VerdictStatus status = error.empty() ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
  return verdict(status, *answer, std::move(error));
}

}  // namespace moerl::reward
