#include "experiments/tasks/countdown.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <set>

#include "common/check.h"
#include "policy/tokenizer_builder.h"

namespace moerl {
namespace {

constexpr int64_t kHeldOutShare = 6;  // one in so many
constexpr int64_t kMaxAttempts = 12;  // of one demonstration

/// The operations allowed on two values.
std::vector<CountdownStep> steps_on(int32_t a, int32_t b, int32_t max_value) {
  const int32_t x = std::max(a, b), y = std::min(a, b);
  std::vector<CountdownStep> steps;
  if (x + y <= max_value) steps.push_back({x, y, x + y, '+'});
  if (x - y >= 1) steps.push_back({x, y, x - y, '-'});
  if (x * y <= max_value) steps.push_back({x, y, x * y, '*'});
  if (y > 1 && x % y == 0) steps.push_back({x, y, x / y, '/'});
  return steps;
}

/// Appends to `lines` every way to join the rest of the numbers to `value`, one after the other.
void extend(int32_t value, const std::vector<int32_t>& rest, int32_t max_value, CountdownLine& line,
            std::set<CountdownLine>& lines) {
  if (rest.empty()) {
    lines.insert(line);
    return;
  }
  for (size_t i = 0; i < rest.size(); ++i) {
    std::vector<int32_t> others = rest;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    for (const CountdownStep& step : steps_on(value, rest[i], max_value)) {
      line.push_back(step);
      extend(step.value, others, max_value, line, lines);
      line.pop_back();
    }
  }
}

/// All multisets of `count` numbers in [1, max], each descending.
void multisets(int64_t count, int32_t max, std::vector<int32_t>& prefix,
               std::vector<std::vector<int32_t>>& out) {
  if (static_cast<int64_t>(prefix.size()) == count) {
    out.push_back(prefix);
    return;
  }
  for (int32_t n = 1; n <= (prefix.empty() ? max : prefix.back()); ++n) {
    prefix.push_back(n);
    multisets(count, max, prefix, out);
    prefix.pop_back();
  }
}

std::string numbers_text(const CountdownProblem& problem) {
  std::string text;
  for (int32_t n : problem.numbers) text += (text.empty() ? "" : " ") + std::to_string(n);
  return text;
}

bool is_held_out(const CountdownProblem& problem) {
  return mix64(hash64(concat(numbers_text(problem), " -> ", problem.target))) % kHeldOutShare == 0;
}

PromptRow to_row(const CountdownProblem& problem) {
  std::string list;
  for (int32_t n : problem.numbers) list += (list.empty() ? "" : ", ") + std::to_string(n);
  return {.data_source = "countdown",
          .prompt = countdown_prompt(problem),
          .ground_truth = concat("{\"numbers\": [", list, "], \"target\": ", problem.target, "}"),
          .extra_info_json = ""};
}

template <typename T>
void shuffle(std::vector<T>& items, Rng& rng) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[rng.below(static_cast<uint32_t>(i))]);
}

/// Numbers, words and signs are one token each, so that a line is a dozen tokens.
std::string countdown_tokenizer(int64_t max_value) {
  policy::TokenizerSpec spec;
  spec.special_tokens = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
  spec.added_tokens = {"<｜User｜>", "<｜Assistant｜>", "<think>",
                       "</think>",   "<answer>",        "</answer>"};
  spec.split_regex = R"(\p{N}{1,3}| [-+*/=] |, | ?\p{L}+|\n|\s+(?!\S)|\s+|[^\s\p{L}\p{N}])";
  for (int64_t n = 10; n <= max_value; ++n) spec.tokens.push_back(std::to_string(n));
  for (const char* text : {" + ", " - ", " * ", " / ", " = ", ", ", "Numbers", " Target", " low",
                           " high", " yes", " give", " up"})
    spec.tokens.emplace_back(text);
  return build_tokenizer_json(spec);
}

}  // namespace

std::vector<CountdownLine> countdown_lines(const std::vector<int32_t>& numbers, int32_t max_value) {
  std::set<CountdownLine> lines;
  for (size_t i = 0; i < numbers.size(); ++i) {
    for (size_t j = i + 1; j < numbers.size(); ++j) {
      std::vector<int32_t> rest = numbers;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(j));
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      for (const CountdownStep& step : steps_on(numbers[i], numbers[j], max_value)) {
        CountdownLine line = {step};
        extend(step.value, rest, max_value, line, lines);
      }
    }
  }
  return {lines.begin(), lines.end()};
}

std::string countdown_expression(const CountdownLine& line) {
  std::string text = concat(line[0].left, " ", line[0].op, " ", line[0].right);
  for (size_t i = 1; i < line.size(); ++i) {
    const CountdownStep& step = line[i];
    const bool value_is_left = step.left == line[i - 1].value;
    text = value_is_left ? concat("(", text, ") ", step.op, " ", step.right)
                         : concat(step.left, " ", step.op, " (", text, ")");
  }
  return text;
}

std::string countdown_prompt(const CountdownProblem& problem) {
  return concat("<｜begin▁of▁sentence｜><｜User｜>Numbers: ", numbers_text(problem),
                ". Target: ", problem.target, ".<｜Assistant｜>");
}

std::string countdown_trace(const CountdownProblem& problem, const CountdownConfig& config,
                            Rng& rng) {
  std::map<CountdownStep, std::vector<CountdownLine>> by_first_step;
  for (CountdownLine& line :
       countdown_lines(problem.numbers, static_cast<int32_t>(config.max_value)))
    by_first_step[line[0]].push_back(line);
  std::vector<const std::vector<CountdownLine>*> open;
  for (const auto& [step, lines] : by_first_step) open.push_back(&lines);
  shuffle(open, rng);

  const auto miss = [&](const CountdownLine& line) {
    return std::abs(line.back().value - problem.target);
  };
  std::string text = "<think>\n";
  CountdownLine line;
  for (int64_t attempt = 1;; ++attempt) {
    const std::vector<CountdownLine>& choices = *open.back();
    open.pop_back();
    if (rng.uniform() < config.closest) {
      line = *std::min_element(choices.begin(), choices.end(),
                               [&](const auto& a, const auto& b) { return miss(a) < miss(b); });
    } else {
      line = choices[rng.below(static_cast<uint32_t>(choices.size()))];
      if (miss(line) != 0) open.insert(open.begin(), &choices);  // worth another look, later
    }
    for (size_t i = 0; i < line.size(); ++i)
      text += concat(i == 0 ? "" : ", ", line[i].left, " ", line[i].op, " ", line[i].right, " = ",
                     line[i].value);
    if (miss(line) == 0) {
      text += " yes\n";
      break;
    }
    text += line.back().value < problem.target ? " low\n" : " high\n";
    if (rng.uniform() < config.give_up || attempt >= kMaxAttempts || open.empty()) {
      text += "I give up.\n";
      break;
    }
  }
  return text + "</think>\n<answer>" + countdown_expression(line) + "</answer>";
}

TaskData make_countdown(const CountdownConfig& config, uint64_t seed) {
  std::vector<std::vector<int32_t>> all_numbers;
  std::vector<int32_t> prefix;
  multisets(config.num_numbers, static_cast<int32_t>(config.max_number), prefix, all_numbers);
  std::vector<CountdownProblem> train, held_out;
  for (const std::vector<int32_t>& numbers : all_numbers) {
    std::set<int32_t> targets;
    for (const CountdownLine& line :
         countdown_lines(numbers, static_cast<int32_t>(config.max_value)))
      if (line.back().value <= config.max_target) targets.insert(line.back().value);
    for (int32_t target : targets) {
      CountdownProblem problem{numbers, target};
      (is_held_out(problem) ? held_out : train).push_back(std::move(problem));
    }
  }
  if (static_cast<int64_t>(held_out.size()) < config.val_size || train.empty())
    throw ConfigError(concat("task.countdown.val_size is ", config.val_size,
                             ", these settings have ", held_out.size(), " held-out problems"));
  Rng order(seed, hash64("countdown/problems"));
  shuffle(train, order);
  // The held-out problems are the same for every seed, so that seeds can be compared.
  Rng fixed(0, hash64("countdown/held-out"));
  shuffle(held_out, fixed);
  held_out.resize(static_cast<size_t>(config.val_size));

  TaskData task;
  task.verifier = "countdown";
  task.tokenizer_json = countdown_tokenizer(config.max_value);
  for (const CountdownProblem& problem : train) task.train.push_back(to_row(problem));
  for (const CountdownProblem& problem : held_out) task.val.push_back(to_row(problem));
  for (int64_t i = 0; i < config.demonstrations; ++i) {
    Rng rng(seed, mix64(hash64("countdown/demonstration") + static_cast<uint64_t>(i)));
    const CountdownProblem& problem = train[rng.below(static_cast<uint32_t>(train.size()))];
    task.demonstrations.push_back(
        {countdown_prompt(problem), countdown_trace(problem, config, rng)});
  }
  return task;
}

}  // namespace moerl
