// Rewards in child processes: what they may answer, and what becomes of everything else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "common/error.h"
#include "reward/plugins/plugin_verifier.h"
#include "reward/scorer.h"

namespace moerl::reward {
namespace {

using testing::HasSubstr;

class PluginTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c '' >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no python3";
    directory_ = std::filesystem::temp_directory_path() /
                 ("moerl_plugin_test_" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name) << text;
    return (directory_ / name).string();
  }
  /// A Python reward of this text.
  std::shared_ptr<const PluginVerifier> python(const std::string& text,
                                               const std::string& function = "") {
    return std::make_shared<PluginVerifier>(
        python_plugin("mine", write("reward.py", text) + function));
  }
  std::shared_ptr<const PluginVerifier> command(const std::string& text) {
    return std::make_shared<PluginVerifier>(
        command_plugin("mine", "python3 -u " + write("command.py", text)));
  }

  static Verdict judge(const Verifier& verifier, const std::string& response,
                       int deadline_ms = 30'000) {
    const Sample sample{response, "gold", R"({"level": 3})", "source", "prompt", 2, {5, 6}};
    return verifier.score(sample, {}, budget(deadline_ms));
  }
  static WorkBudget budget(int deadline_ms) {
    return {WorkBudget::Clock::now() + std::chrono::milliseconds(deadline_ms), {}};
  }
  static std::vector<Verdict> judge_batch(const Verifier& verifier,
                                          const std::vector<std::string>& responses,
                                          int deadline_ms = 60'000) {
    std::vector<Sample> samples;
    for (const std::string& response : responses) samples.push_back({.response = response});
    std::vector<const Sample*> pointers;
    for (const Sample& sample : samples) pointers.push_back(&sample);
    return verifier.score_batch(pointers, {}, budget(deadline_ms));
  }

  std::filesystem::path directory_;
};

TEST_F(PluginTest, RunsVerlsFunctionUnchanged) {
  const auto verifier = python(R"(
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    print("noise on stdout")
    assert (data_source, ground_truth, extra_info) == ("source", "gold", {"level": 3})
    if solution_str == "dict":
        return {"score": 0.5, "acc": True, "num_steps": 4, "note": "not a number"}
    if solution_str == "bool":
        return True
    return 1.0 if solution_str == "right" else 0.25
)");
  const Verdict right = judge(*verifier, "right");
  EXPECT_EQ(right.score, 1);
  EXPECT_EQ(right.status, VerdictStatus::kCorrect);
  EXPECT_EQ(right.parts, (std::map<std::string, double>{{"mine", 1}}));
  EXPECT_EQ(judge(*verifier, "wrong").status, VerdictStatus::kIncorrect);
  EXPECT_EQ(judge(*verifier, "wrong").score, 0.25);
  EXPECT_EQ(judge(*verifier, "bool").score, 1);
  const Verdict dict = judge(*verifier, "dict");
  EXPECT_EQ(dict.score, 0.5);
  EXPECT_EQ(dict.status, VerdictStatus::kCorrect);
  EXPECT_EQ(dict.parts,
            (std::map<std::string, double>{{"acc", 1}, {"mine", 0.5}, {"num_steps", 4}}));
}

TEST_F(PluginTest, RunsTrlsBatchFormUnchanged) {
  const auto verifier = python(R"(
def helper(x): return len(x)
def my_reward(prompts, completions, completion_ids, level, solution, **kwargs):
    assert len(prompts) == len(completions) == len(completion_ids) == len(level)
    if "short" in completions: return [1.0] * (len(completions) - 1)
    return [None if c == "skip" else helper(c) + (s == "gold") for c, s in zip(completions, solution)]
)");
  EXPECT_EQ(judge(*verifier, "abc").score, 4);
  EXPECT_EQ(judge(*verifier, "skip").status, VerdictStatus::kGoldError);
  const Verdict short_list = judge(*verifier, "short");
  EXPECT_EQ(short_list.status, VerdictStatus::kInternalError);
  EXPECT_THAT(short_list.detail, HasSubstr("returned 0 scores for 1 completions"));
}

TEST_F(PluginTest, AwaitsAsynchronousFunctions) {
  const auto verifier = python(
      "async def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
      "    return 1\n");
  EXPECT_EQ(judge(*verifier, "x").score, 1);
}

TEST_F(PluginTest, TakesTheNamedFunction) {
  const auto verifier = python(
      "def a(completions, **kw): return [1] * len(completions)\n"
      "def b(completions, **kw): return [2] * len(completions)\n",
      ":b");
  EXPECT_EQ(judge(*verifier, "x").score, 2);
}

TEST_F(PluginTest, BadAnswersAreErrorsAndNeverZero) {
  const auto verifier = python(R"(
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "text": return "1.0"
    if solution_str == "nan": return float("nan")
    if solution_str == "inf": return {"score": float("inf")}
    if solution_str == "keys": return {"reward": 1}
    if solution_str == "raise": raise KeyError("no such thing")
    return 1
)");
  const std::map<std::string, std::string> expected = {
      {"text", "returned str '1.0', expected a number"},
      {"nan", "returned nan, expected a finite number"},
      {"inf", "returned inf, expected a finite number"},
      {"keys", "expected one with 'score'"},
      {"raise", "KeyError: 'no such thing' (line 7"}};
  std::vector<std::string> responses = {"fine"};
  for (const auto& [response, text] : expected) responses.push_back(response);
  const std::vector<Verdict> verdicts = judge_batch(*verifier, responses);
  EXPECT_EQ(verdicts[0].status, VerdictStatus::kCorrect);
  for (size_t i = 1; i < responses.size(); ++i) {
    EXPECT_EQ(verdicts[i].status, VerdictStatus::kInternalError) << responses[i];
    EXPECT_THAT(verdicts[i].detail, HasSubstr(expected.at(responses[i])));
    EXPECT_THAT(verdicts[i].detail, HasSubstr("reward plug-in 'mine'"));
  }
}

TEST_F(PluginTest, AProcessThatDiesCostsTheSampleThatKilledIt) {
  const auto verifier = python(R"(
import os, sys
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "die":
        sys.stderr.write("last words\n")
        os.kill(os.getpid(), 11)
    return 1
)");
  const auto verdicts = judge_batch(*verifier, {"a", "die", "b"});
  EXPECT_EQ(verdicts[0].score, 1);
  EXPECT_EQ(verdicts[2].score, 1);
  EXPECT_EQ(verdicts[1].status, VerdictStatus::kInternalError);
  EXPECT_THAT(verdicts[1].detail, HasSubstr("signal 11"));
  EXPECT_THAT(verdicts[1].detail, HasSubstr("last words"));
}

TEST_F(PluginTest, AProcessThatHangsIsKilledAtTheDeadline) {
  const auto verifier = python(
      "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
      "    while solution_str == 'hang': pass\n"
      "    return 1\n");
  const Verdict hung = judge(*verifier, "hang", 300);
  EXPECT_EQ(hung.status, VerdictStatus::kTimeout);
  EXPECT_EQ(judge(*verifier, "fine").score, 1);
  const auto verdicts = judge_batch(*verifier, {"a", "hang", "b"}, 6000);
  EXPECT_EQ(verdicts[0].score, 1);
  EXPECT_EQ(verdicts[1].status, VerdictStatus::kTimeout);
  EXPECT_EQ(verdicts[2].score, 1);
}

TEST_F(PluginTest, WhatCannotBeLoadedIsRefusedAtTheStart) {
  const auto refusal = [&](const std::string& text, const std::string& function = "") {
    try {
      python(text, function);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal("import no_such_module_at_all"), HasSubstr("no_such_module_at_all"));
  EXPECT_THAT(refusal("def compute_score(:"), HasSubstr("SyntaxError"));
  EXPECT_THAT(refusal("x = 1"), HasSubstr("has no compute_score"));
  EXPECT_THAT(refusal("x = 1", ":missing"), HasSubstr("missing"));
  EXPECT_THROW(PluginVerifier(python_plugin("mine", "/no/such/file.py")), ConfigError);
  for (const char* program : {"/no/such/program", "no-such-program --flag", "/tmp"})
    EXPECT_THROW(PluginVerifier(command_plugin("mine", program)), ConfigError) << program;
}

TEST_F(PluginTest, ACommandAnswersALineForEachLine) {
  const auto verifier = command(R"(
import json, sys
for line in sys.stdin:
    s = json.loads(line)
    if s["response"] == "number": print(0.5)
    elif s["response"] == "garbage": print("garbage")
    elif s["response"] == "id": print('{"score": 1, "id": 77}')
    elif s["response"] == "twice": print("1\n1")
    elif s["response"] == "nan": print('{"score": NaN}')
    elif s["response"] == "end": sys.exit(3)
    else: print(json.dumps({"id": s["id"], "score": s["num_tokens"] or 0, "status": "correct",
                            "extracted": "x", "parts": {"p": 2}}))
)");
  EXPECT_EQ(judge(*verifier, "number").score, 0.5);
  const Verdict whole = judge(*verifier, "anything");
  EXPECT_EQ(whole.score, 2);
  EXPECT_EQ(whole.extracted, "x");
  EXPECT_EQ(whole.parts, (std::map<std::string, double>{{"mine", 2}, {"p", 2}}));
  const std::map<std::string, std::string> expected = {
      {"garbage", "the answer is 'garbage', expected JSON"},
      {"id", "the answer's id is 77, expected 0"},
      {"twice", "wrote more lines than it was asked for"},
      {"nan", "expected JSON"},
      {"end", "exit status 3"}};
  for (const auto& [response, text] : expected) {
    const Verdict verdict = judge(*verifier, response);
    EXPECT_EQ(verdict.status, VerdictStatus::kInternalError) << response;
    EXPECT_THAT(verdict.detail, HasSubstr(text));
    EXPECT_EQ(judge(*verifier, "number").score, 0.5) << "after " << response;
  }
  const auto verdicts = judge_batch(*verifier, {"number", "garbage", "number"});
  EXPECT_EQ(verdicts[0].score, 0.5);
  EXPECT_EQ(verdicts[1].status, VerdictStatus::kInternalError);
  EXPECT_EQ(verdicts[2].score, 0.5);
}

TEST_F(PluginTest, TheScorerGivesItWhatWaitsAsBatches) {
  const auto verifier = python(R"(
def reward(completions, **kwargs):
    return [{"score": 1, "batch": len(completions)} for c in completions]
)");
  auto registry = make_verifier_registry();
  registry->add(verifier);
  Scorer scorer(registry, {.num_threads = 1, .deadline_ms = 60'000});
  std::vector<ScoreItem> items(200, ScoreItem{.verifier = "mine"});
  for (uint64_t i = 0; i < items.size(); ++i) items[i].id = i;
  std::promise<std::vector<Verdict>> promise;
  scorer.submit_batch(items, {}, [&](std::exception_ptr, std::vector<Verdict> verdicts) {
    promise.set_value(std::move(verdicts));
  });
  double largest = 0;
  const std::vector<Verdict> verdicts = promise.get_future().get();
  for (uint64_t i = 0; i < verdicts.size(); ++i) {
    EXPECT_EQ(verdicts[i].id, i);
    EXPECT_EQ(verdicts[i].score, 1);
    largest = std::max(largest, verdicts[i].parts.at("batch"));
  }
  EXPECT_EQ(largest, 64);
}

}  // namespace
}  // namespace moerl::reward
