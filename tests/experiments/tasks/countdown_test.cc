#include "experiments/tasks/countdown.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

#include "common/error.h"
#include "common/json.h"
#include "policy/tokenizer.h"
#include "reward/verifier_registry.h"

namespace moerl {
namespace {

/// An exact fraction, kept reduced.
struct Fraction {
  int64_t top = 0, bottom = 1;
  friend auto operator<=>(const Fraction&, const Fraction&) = default;
};
std::optional<Fraction> apply(Fraction a, char op, Fraction b) {
  Fraction r;
  if (op == '+') r = {a.top * b.bottom + b.top * a.bottom, a.bottom * b.bottom};
  if (op == '-') r = {a.top * b.bottom - b.top * a.bottom, a.bottom * b.bottom};
  if (op == '*') r = {a.top * b.top, a.bottom * b.bottom};
  if (op == '/') {
    if (b.top == 0) return std::nullopt;
    r = {a.top * b.bottom, a.bottom * b.top};
  }
  const int64_t g = std::gcd(r.top, r.bottom) * (r.bottom < 0 ? -1 : 1);
  return Fraction{r.top / g, r.bottom / g};
}

/// Every value that any expression over all the numbers has.
void reachable(std::vector<Fraction> values, std::set<Fraction>& out) {
  if (values.size() == 1) {
    out.insert(values[0]);
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = 0; j < values.size(); ++j) {
      if (i == j) continue;
      for (char op : {'+', '-', '*', '/'}) {
        const std::optional<Fraction> value = apply(values[i], op, values[j]);
        if (!value) continue;
        std::vector<Fraction> rest = {*value};
        for (size_t k = 0; k < values.size(); ++k)
          if (k != i && k != j) rest.push_back(values[k]);
        reachable(std::move(rest), out);
      }
    }
  }
}

/// Value of an expression with parentheses, and the numbers in it.
class Evaluator {
 public:
  explicit Evaluator(const std::string& text) : in_(text) {}
  std::optional<Fraction> value() {
    const std::optional<Fraction> v = sum();
    return peek() == EOF ? v : std::nullopt;
  }
  std::multiset<int64_t> numbers;

 private:
  int peek() { return (in_ >> std::ws).peek(); }
  std::optional<Fraction> sum() {
    std::optional<Fraction> v = product();
    while (v && (peek() == '+' || peek() == '-')) {
      const char op = static_cast<char>(in_.get());
      const std::optional<Fraction> right = product();
      v = right ? apply(*v, op, *right) : std::nullopt;
    }
    return v;
  }
  std::optional<Fraction> product() {
    std::optional<Fraction> v = atom();
    while (v && (peek() == '*' || peek() == '/')) {
      const char op = static_cast<char>(in_.get());
      const std::optional<Fraction> right = atom();
      v = right ? apply(*v, op, *right) : std::nullopt;
    }
    return v;
  }
  std::optional<Fraction> atom() {
    if (peek() == '(') {
      in_.get();
      const std::optional<Fraction> v = sum();
      return peek() == ')' && in_.get() ? v : std::nullopt;
    }
    int64_t n = 0;
    if (!(in_ >> n)) return std::nullopt;
    numbers.insert(n);
    return Fraction{n, 1};
  }
  std::istringstream in_;
};

struct Problem {
  std::vector<int64_t> numbers;
  int64_t target = 0;
  friend auto operator<=>(const Problem&, const Problem&) = default;
};
Problem problem_of(const PromptRow& row) {
  const nlohmann::json truth = parse_json(row.ground_truth);
  return {truth["numbers"].get<std::vector<int64_t>>(), truth["target"].get<int64_t>()};
}
Problem problem_of_prompt(const std::string& prompt) {
  static const std::regex kPrompt(
      "<｜begin▁of▁sentence｜><｜User｜>Numbers: ([0-9 ]+)\\. Target: ([0-9]+)\\.<｜Assistant｜>");
  std::smatch match;
  Problem problem;
  if (!std::regex_match(prompt, match, kPrompt)) {
    ADD_FAILURE() << prompt;
    return problem;
  }
  std::istringstream numbers(match[1].str());
  for (int64_t n = 0; numbers >> n;) problem.numbers.push_back(n);
  problem.target = std::stoll(match[2].str());
  return problem;
}

CountdownConfig small_config(int64_t demonstrations = 400) {
  CountdownConfig config;
  config.demonstrations = demonstrations;
  return config;
}
/// The task of the default numbers, made once.
const TaskData& default_task() {
  static const TaskData task = make_countdown(small_config(3000), 1);
  return task;
}

void expect_all_solvable(const CountdownConfig& config) {
  const TaskData task = make_countdown(config, 1);
  std::map<std::vector<int64_t>, std::set<Fraction>> values;
  for (const auto* rows : {&task.train, &task.val}) {
    for (const PromptRow& row : *rows) {
      const Problem p = problem_of(row);
      ASSERT_EQ(static_cast<int64_t>(p.numbers.size()), config.num_numbers);
      for (int64_t n : p.numbers) EXPECT_TRUE(n >= 1 && n <= config.max_number);
      EXPECT_TRUE(p.target >= 1 && p.target <= config.max_target);
      EXPECT_EQ(problem_of_prompt(row.prompt), p);
      EXPECT_EQ(row.data_source, "countdown");
      auto [found, is_new] = values.try_emplace(p.numbers);
      if (is_new) {
        std::vector<Fraction> start;
        for (int64_t n : p.numbers) start.push_back({n, 1});
        reachable(start, found->second);
      }
      EXPECT_TRUE(found->second.contains({p.target, 1})) << row.ground_truth;
    }
  }
}

TEST(CountdownTest, EveryProblemHasASolution) {
  expect_all_solvable(small_config(0));
  expect_all_solvable({.num_numbers = 2, .max_number = 30, .val_size = 16, .demonstrations = 0});
  expect_all_solvable({.num_numbers = 4,
                       .max_number = 5,
                       .max_target = 20,
                       .max_value = 30,
                       .val_size = 32,
                       .demonstrations = 0});
}

TEST(CountdownTest, HeldOutProblemsAreNeverTrainedOn) {
  for (uint64_t seed : {1, 2}) {
    const TaskData task = make_countdown(small_config(), seed);
    std::set<Problem> val, train;
    for (const PromptRow& row : task.val) EXPECT_TRUE(val.insert(problem_of(row)).second);
    for (const PromptRow& row : task.train) EXPECT_TRUE(train.insert(problem_of(row)).second);
    EXPECT_EQ(val.size(), 256u);
    EXPECT_GT(train.size(), 1500u);
    for (const Problem& p : train) EXPECT_FALSE(val.contains(p));
    for (const DemoRow& row : task.demonstrations)
      EXPECT_TRUE(train.contains(problem_of_prompt(row.prompt)));
  }
}

TEST(CountdownTest, IsAFunctionOfTheSeedAndTheHeldOutProblemsOfNone) {
  const TaskData a = make_countdown(small_config(), 1), b = make_countdown(small_config(), 1),
                 c = make_countdown(small_config(), 2);
  const auto prompts = [](const std::vector<PromptRow>& rows) {
    std::vector<std::string> out;
    for (const PromptRow& row : rows) out.push_back(row.prompt);
    return out;
  };
  const auto traces = [](const TaskData& task) {
    std::vector<std::string> out;
    for (const DemoRow& row : task.demonstrations) out.push_back(row.prompt + row.completion);
    return out;
  };
  EXPECT_EQ(prompts(a.train), prompts(b.train));
  EXPECT_EQ(traces(a), traces(b));
  EXPECT_NE(prompts(a.train), prompts(c.train));
  EXPECT_NE(traces(a), traces(c));
  EXPECT_EQ(prompts(a.val), prompts(c.val));
  EXPECT_EQ(a.tokenizer_json, c.tokenizer_json);
}

/// One line of a trace, such as "10 + 6 = 16, 16 * 2 = 32 low": its last value and word.
struct ParsedLine {
  int64_t value = 0;
  std::string word;
};
ParsedLine parse_line(const std::string& line, const Problem& problem, int64_t max_value) {
  static const std::regex kStep("([0-9]+) ([-+*/]) ([0-9]+) = ([0-9]+)");
  const size_t space = line.rfind(' ');
  ParsedLine parsed{0, line.substr(space + 1)};
  std::multiset<int64_t> unused(problem.numbers.begin(), problem.numbers.end());
  const auto use = [&](int64_t n) {
    const auto found = unused.find(n);
    if (found == unused.end()) return false;
    unused.erase(found);
    return true;
  };
  std::istringstream in(line.substr(0, space));
  std::string step;
  for (int i = 0; std::getline(in >> std::ws, step, ','); ++i) {
    std::smatch match;
    if (!std::regex_match(step, match, kStep)) {
      ADD_FAILURE() << line;
      return parsed;
    }
    const int64_t left = std::stoll(match[1]), right = std::stoll(match[3]),
                  value = std::stoll(match[4]);
    EXPECT_EQ(apply({left, 1}, match[2].str()[0], {right, 1}), (Fraction{value, 1})) << line;
    EXPECT_GE(left, right) << line;
    EXPECT_TRUE(value >= 1 && value <= max_value) << line;
    if (i == 0) {
      EXPECT_TRUE(use(left) && use(right)) << line;
    } else {
      EXPECT_TRUE((left == parsed.value && use(right)) || (right == parsed.value && use(left)))
          << line;
    }
    parsed.value = value;
  }
  EXPECT_TRUE(unused.empty()) << line;
  EXPECT_EQ(parsed.word, parsed.value < problem.target   ? "low"
                         : parsed.value > problem.target ? "high"
                                                         : "yes")
      << line;
  return parsed;
}

TEST(CountdownTest, EveryLineOfEveryDemonstrationIsRight) {
  const CountdownConfig config;
  int64_t backtracks = 0;
  for (const DemoRow& row : default_task().demonstrations) {
    const Problem problem = problem_of_prompt(row.prompt);
    std::istringstream in(row.completion);
    std::string line, last_line;
    std::getline(in, line);
    EXPECT_EQ(line, "<think>");
    ParsedLine last;
    bool gave_up = false;
    std::set<std::string> lines;
    while (std::getline(in, line) && line != "</think>") {
      EXPECT_FALSE(gave_up || last.word == "yes") << row.completion;  // nothing comes after these
      if (line == "I give up.") {
        gave_up = true;
        continue;
      }
      last = parse_line(line, problem, config.max_value);
      lines.insert(line);
    }
    EXPECT_EQ(gave_up, last.word != "yes") << row.completion;
    backtracks += lines.size() > 1;
    ASSERT_TRUE(std::getline(in, line));
    ASSERT_TRUE(line.starts_with("<answer>") && line.ends_with("</answer>")) << line;
    Evaluator answer(line.substr(8, line.size() - 17));
    EXPECT_EQ(answer.value(), (Fraction{last.value, 1})) << row.completion;
    EXPECT_EQ(answer.numbers,
              std::multiset<int64_t>(problem.numbers.begin(), problem.numbers.end()));
    EXPECT_FALSE(std::getline(in, line));
  }
  EXPECT_GT(backtracks, 1000);
}

TEST(CountdownTest, AboutHalfOfTheDemonstrationsSucceedByTheVerifier) {
  const auto verifier = reward::make_verifier_registry()->get(default_task().verifier);
  double correct = 0;
  for (const DemoRow& row : default_task().demonstrations) {
    const Problem p = problem_of_prompt(row.prompt);
    const std::string truth = nlohmann::json{{"numbers", p.numbers}, {"target", p.target}}.dump();
    const reward::Verdict verdict =
        verifier->score({row.completion, truth, "", "countdown", row.prompt}, {}, {});
    const bool says_yes = row.completion.find(" yes\n") != std::string::npos;
    EXPECT_EQ(verdict.status,
              says_yes ? reward::VerdictStatus::kCorrect : reward::VerdictStatus::kIncorrect)
        << row.completion;
    EXPECT_EQ(verdict.parts.at("format"), 1);
    correct += verdict.status == reward::VerdictStatus::kCorrect;
  }
  const double accuracy = correct / static_cast<double>(default_task().demonstrations.size());
  EXPECT_GT(accuracy, 0.45);
  EXPECT_LT(accuracy, 0.65);
}

TEST(CountdownTest, CarefulSettingsSucceedMoreOften) {
  const auto share = [](double closest, double give_up) {
    CountdownConfig config = small_config(800);
    config.closest = closest;
    config.give_up = give_up;
    double yes = 0;
    for (const DemoRow& row : make_countdown(config, 1).demonstrations)
      yes += row.completion.find(" yes\n") != std::string::npos;
    return yes / 800;
  };
  const double base = share(0.75, 0.2);
  EXPECT_GT(share(1, 0), 0.95);
  EXPECT_LT(share(0.3, 0.2), base);
  EXPECT_LT(share(0.75, 0.6), base);
}

TEST(CountdownTest, TokenizerHasOneTokenForEveryNumber) {
  const auto tokenizer = policy::Tokenizer::from_json(default_task().tokenizer_json);
  for (int64_t n = 0; n <= CountdownConfig{}.max_value; ++n) {
    EXPECT_EQ(tokenizer.encode(std::to_string(n)).size(), 1u) << n;
    EXPECT_EQ(tokenizer.encode(" + " + std::to_string(n) + " = ").size(), 3u) << n;
  }
  for (const char* text : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<think>",
                           "</think>", "<answer>", "</answer>", "<｜User｜>", "<｜Assistant｜>"})
    EXPECT_EQ(tokenizer.encode(text).size(), 1u) << text;
  // As the config of the recipe's model says.
  EXPECT_EQ(tokenizer.token_id("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(tokenizer.token_id("<｜end▁of▁sentence｜>"), 1);
  EXPECT_LE(tokenizer.vocab_size(), 512);
}

TEST(CountdownTest, TextSurvivesTheTokenizerInFewTokens) {
  const auto tokenizer = policy::Tokenizer::from_json(default_task().tokenizer_json);
  double tokens = 0, over_limit = 0;
  for (const DemoRow& row : default_task().demonstrations) {
    const std::vector<int32_t> prompt = tokenizer.encode(row.prompt),
                               trace = tokenizer.encode(row.completion);
    EXPECT_EQ(tokenizer.decode(prompt), row.prompt);
    EXPECT_EQ(tokenizer.decode(trace), row.completion);
    EXPECT_LE(prompt.size(), 24u);
    // Every line is a dozen tokens: five a step of two, signs and the verdict's word included.
    tokens += static_cast<double>(trace.size());
    over_limit += trace.size() > 160;
  }
  const auto n = static_cast<double>(default_task().demonstrations.size());
  EXPECT_GT(tokens / n, 25);
  EXPECT_LT(tokens / n, 80);
  EXPECT_LT(over_limit / n, 0.03);
}

TEST(CountdownLinesTest, AllLinesOfASmallProblem) {
  std::set<std::string> expressions;
  for (const CountdownLine& line : countdown_lines({6, 3}, 60))
    expressions.insert(countdown_expression(line));
  EXPECT_EQ(expressions, (std::set<std::string>{"6 + 3", "6 - 3", "6 * 3", "6 / 3"}));
  expressions.clear();
  for (const CountdownLine& line :
       countdown_lines({7, 3}, 10))  // 21 is too large, 7 / 3 no integer
    expressions.insert(countdown_expression(line));
  EXPECT_EQ(expressions, (std::set<std::string>{"7 + 3", "7 - 3"}));
  EXPECT_EQ(countdown_lines({1, 1}, 9).size(), 2u);  // no 1 - 1 = 0, and 1 / 1 is 1 * 1
}

TEST(CountdownLinesTest, ExpressionsHaveTheValueOfTheirLine) {
  for (const CountdownLine& line : countdown_lines({8, 5, 3, 2}, 100)) {
    Evaluator evaluator(countdown_expression(line));
    EXPECT_EQ(evaluator.value(), (Fraction{line.back().value, 1})) << countdown_expression(line);
    EXPECT_EQ(evaluator.numbers, (std::multiset<int64_t>{8, 5, 3, 2}));
  }
}

TEST(CountdownTest, TooFewProblemsAreAConfigError) {
  CountdownConfig config = small_config(0);
  config.val_size = 100000;
  EXPECT_THROW(make_countdown(config, 1), ConfigError);
}

}  // namespace
}  // namespace moerl
