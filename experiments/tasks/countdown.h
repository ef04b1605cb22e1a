#pragma once
#include <string>
#include <vector>

#include "common/rng.h"
#include "experiments/tasks/task.h"

namespace moerl {

/// Countdown: reach a target with + - * / from given numbers, each used exactly once.
///
/// A line is one attempt: a first step on two of the numbers, then each further number joined to
/// the value so far. Steps are written larger operand first, and their values stay integers in [1,
/// max_value]. The problems are all (numbers in [1, max_number], target in [1, max_target]) that
/// some line solves; a hash of the problem decides which sixth of them is held out.
///
/// A demonstration searches in the open: it tries first steps in random order, finishes each with
/// the line that comes closest to the target (with probability `closest`, otherwise with any), says
/// whether the result is low or high, and goes back for the next. It is deliberately imperfect:
/// after every failed attempt it gives up with probability `give_up` and answers with the attempt
/// that just failed.
TaskData make_countdown(const CountdownConfig& config, uint64_t seed);

/// One operation, larger operand first.
struct CountdownStep {
  int32_t left = 0, right = 0, value = 0;
  char op = '+';
  friend auto operator<=>(const CountdownStep&, const CountdownStep&) = default;
};
using CountdownLine = std::vector<CountdownStep>;

struct CountdownProblem {
  std::vector<int32_t> numbers;  ///< descending
  int32_t target = 0;
};

/// Every line over the numbers, without repeats, in a fixed order.
std::vector<CountdownLine> countdown_lines(const std::vector<int32_t>& numbers, int32_t max_value);
/// "(10 + 6) * 2": the line as one expression.
std::string countdown_expression(const CountdownLine& line);
std::string countdown_prompt(const CountdownProblem& problem);
/// A demonstration's completion.
std::string countdown_trace(const CountdownProblem& problem, const CountdownConfig& config,
                            Rng& rng);

}  // namespace moerl
