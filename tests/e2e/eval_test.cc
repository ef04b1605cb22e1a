// `moerl eval` on a trained run: the figures of training, whoever samples and whatever is killed.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "common/file.h"
#include "common/rng.h"
#include "tests/testing/moerl_servers.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::Arguments;
using testing::ChildProcess;
using testing::file_bytes;
using testing::moerl_program;
using testing::MoerlServer;
using testing::Outcome;
using testing::run_moerl;

class Eval : public ::testing::Test {
 protected:
  /// A run that solves some of its held-out problems; trained once for all tests.
  static void SetUpTestSuite() {
    directory_ = new testing::TempDirectory();
    testing::train(*directory_ / "run", overrides());
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }
  static Arguments overrides() {
    return {"task.countdown.demonstrations=3600", "stages.1.total_training_steps=2"};
  }

  static Arguments arguments(const std::string& output, const Arguments& more = {}) {
    Arguments all = {"eval", *directory_ / "run", "--suite",
                     "val",  "--output",          *directory_ / output};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static std::string evaluate(const std::string& output, const Arguments& more = {}) {
    const Outcome outcome = run_moerl(arguments(output, more));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }
  static std::string samples(const std::string& output) {
    return file_bytes(*directory_ / (output + "/samples.jsonl"));
  }
  static json results(const std::string& output) {
    return parse_json(file_bytes(*directory_ / (output + "/results.json")));
  }

  static testing::TempDirectory* directory_;
};
testing::TempDirectory* Eval::directory_ = nullptr;

TEST_F(Eval, GivesTheHeldOutFiguresOfTheTrainingRunExactly) {
  evaluate("a");
  const json last = testing::read_metrics(*directory_ / "run").back();
  const json result = results("a").at("results").at(0);
  const double accuracy = result.at("metrics").at("pass@1[avg-of-2]").at("value");
  EXPECT_GT(accuracy, 0);
  EXPECT_EQ(accuracy, last.at("val-core/countdown/acc/mean@2"));
  EXPECT_EQ(result.at("metrics").at("pass@2").at("value"),
            last.at("val-core/countdown/acc/best@2"));
  EXPECT_EQ(result.at("response_tokens").at("mean"),
            last.at("val-aux/countdown/response_length/mean"));
  EXPECT_EQ(result.at("metrics").at("pass@1[avg-of-2]").at("low"),
            last.at("val-aux/countdown/acc/mean@2/low"));

  // The checkpoint and the name of the task mean the same.
  const std::string checkpoint = testing::last_checkpoint(*directory_ / "run").string();
  const Outcome outcome = run_moerl(
      {"eval", checkpoint, "--suite", "countdown", "--output", *directory_ / "checkpoint"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(samples("checkpoint"), samples("a"));
}

TEST_F(Eval, KilledAtAnyMomentAndContinuedItEndsWithTheSameFiles) {
  Arguments slow = {"--n", "32", "--max-num-seqs", "8"};
  evaluate("whole", slow);
  // Once more there is nothing to do; another evaluation does not fit in.
  evaluate("whole", slow);
  const Outcome other = run_moerl(arguments("whole", {"--n", "4"}));
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.err.find("suites.0.n"), std::string::npos) << other.err;

  MoerlServer one = MoerlServer::rollout(), two = MoerlServer::rollout();
  const std::string fleet = one.address() + "," + two.address();
  Rng rng(1, 0);
  for (const std::string workers : {"", fleet.c_str()}) {
    const std::string output = workers.empty() ? "killed" : "killed-fleet";
    Arguments all = slow;
    if (!workers.empty()) all.insert(all.end(), {"--workers", workers});
    const std::filesystem::path partial = *directory_ / (output + "/samples.partial.jsonl");
    int kills_between = 0;
    for (int kills = 0; kills < 5; ++kills) {
      ChildProcess process(moerl_program(), arguments(output, all));
      const auto size = [&] {
        std::error_code ignored;
        const auto bytes = std::filesystem::file_size(partial, ignored);
        return ignored ? 0 : bytes;
      };
      // Before the first line, or so many bytes after where the last one was killed, within a line.
      const uint64_t more = kills == 0 ? 0 : 1 + rng.below(8000);
      for (const auto before = size(); size() < before + more && !process.ends_within(0ms);) {
      }
      process.kill();
      kills_between += size() > 0;
    }
    EXPECT_GE(kills_between, 2) << "it had ended, or not begun, when it was killed";
    evaluate(output, all);
    EXPECT_EQ(samples(output), samples("whole"));
    EXPECT_EQ(file_bytes(*directory_ / (output + "/results.json")),
              file_bytes(*directory_ / "whole/results.json"));
    EXPECT_FALSE(std::filesystem::exists(partial));
  }
}

TEST_F(Eval, OneTwoAndThreeWorkersGiveTheSameSamples) {
  evaluate("embedded");
  MoerlServer one = MoerlServer::rollout(),
              two = MoerlServer::rollout({}, 0, {{"MOERL_ISA", "portable"}}),
              three = MoerlServer::rollout();
  std::string workers;
  for (const MoerlServer* server : {&one, &two, &three}) {
    workers += (workers.empty() ? "" : ",") + server->address();
    const std::string output = "fleet" + std::to_string(workers.size());
    evaluate(output, {"--workers", workers});
    EXPECT_EQ(samples(output), samples("embedded")) << workers;
  }
}

TEST_F(Eval, SeedAndSamplingAreTheUsersAndLimitsKeepTheProblems) {
  evaluate("seed1", {"--n", "1"});
  evaluate("seed2", {"--n", "1", "--seed", "2"});
  evaluate("three", {"--n", "1", "--limit", "3"});
  EXPECT_NE(samples("seed1"), samples("seed2"));
  EXPECT_TRUE(samples("seed1").starts_with(samples("three")));
  EXPECT_EQ(results("three").at("results").at(0).at("num_samples"), 3);
}

TEST_F(Eval, ComparesRescoresAndExports) {
  evaluate("tuned", {"--n", "4"});
  evaluate("greedy", {"--n", "4", "--temperature", "0"});
  const Outcome compared =
      run_moerl({"eval", "compare", *directory_ / "tuned", *directory_ / "greedy", "--output",
                 *directory_ / "compared"});
  EXPECT_EQ(compared.exit_code, 0) << compared.err;
  EXPECT_NE(compared.out.find("McNemar"), std::string::npos) << compared.out;
  EXPECT_TRUE(std::filesystem::exists(*directory_ / "compared/report.html"));
  EXPECT_EQ(parse_json(file_bytes(*directory_ / "compared/comparison.json"))[0].at("num_problems"),
            8);

  const auto rescore = [&](const std::string& output, const Arguments& more) {
    Arguments all = {"eval", "rescore", *directory_ / "tuned", "--output", *directory_ / output};
    all.insert(all.end(), more.begin(), more.end());
    return run_moerl(all);
  };
  EXPECT_EQ(rescore("same", {}).exit_code, 0);
  EXPECT_EQ(samples("same"), samples("tuned"));
  EXPECT_EQ(rescore("other", {"--verifier", "format"}).exit_code, 0);
  EXPECT_NE(samples("other"), samples("tuned"));
  EXPECT_EQ(rescore("other", {}).exit_code, 1) << "an evaluation was overwritten";
  EXPECT_EQ(rescore("bad", {"--verifier", "oracle"}).exit_code, 1);

  // Verdicts of another version of the verifiers: not continued, but judged anew.
  const std::filesystem::path file = *directory_ / "tuned/eval.json";
  const std::string settings = file_bytes(file);
  json earlier = parse_json(settings);
  earlier.at("suites").at(0).at("verifier_version") = 0;
  write_file_atomic(file, earlier.dump());
  const Outcome continued = run_moerl(arguments("tuned", {"--n", "4"}));
  EXPECT_EQ(continued.exit_code, 1);
  EXPECT_NE(continued.err.find("suites.0.verifier_version was 0"), std::string::npos)
      << continued.err;
  EXPECT_EQ(rescore("anew", {}).exit_code, 0);
  EXPECT_EQ(file_bytes(*directory_ / "anew/eval.json"), settings);
  write_file_atomic(file, settings);

  for (const char* format : {"lm-eval", "lighteval", "inspect"}) {
    const Outcome exported =
        run_moerl({"eval", "export", *directory_ / "tuned", "--format", format});
    EXPECT_EQ(exported.exit_code, 0) << exported.err;
    std::istringstream files(exported.out);
    for (std::string file; std::getline(files, file);)
      if (file.ends_with(".json")) {
        EXPECT_TRUE(json::accept(file_bytes(file))) << file;
      }
  }
}

TEST_F(Eval, WhatDoesNotExistIsNamed) {
  const auto error = [&](const Arguments& more) {
    const Outcome outcome = run_moerl(more, {{"MOERL_DATA", *directory_ / "no-data"}});
    EXPECT_EQ(outcome.exit_code, 1) << outcome.out;
    return outcome.err;
  };
  const std::string run = *directory_ / "run", out = *directory_ / "none";
  EXPECT_NE(error({"eval", run, "--suite", "nosuch", "--output", out}).find("gsm8k"),
            std::string::npos);
  EXPECT_NE(error({"eval", run, "--suite", "gsm8k", "--output", out}).find("moerl data get gsm8k"),
            std::string::npos);
  EXPECT_NE(error({"eval", run, "--suite", "rows.jsonl", "--output", out}).find("--verifier"),
            std::string::npos);
  EXPECT_NE(error({"eval", run, "--suite", "val,val", "--output", out}).find("twice"),
            std::string::npos);
  EXPECT_NE(error({"eval", "compare", out, out}).find("eval"), std::string::npos);
  EXPECT_NE(error({"eval", run + "/nothing", "--suite", "val", "--output", out}).find("nothing"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out + "/eval.json"));
}

TEST_F(Eval, RowsOfAUsersOwnAreEvaluatedWithTheVerifierThatIsNamed) {
  std::ofstream(*directory_ / "mine.jsonl")
      << R"({"data_source":"x","prompt":"Numbers: 3 2. Target: 5.\n","reward_model":{"ground_truth":"3"}})"
      << "\n";
  const Outcome outcome =
      run_moerl({"eval", *directory_ / "run", "--suite", *directory_ / "mine.jsonl", "--verifier",
                 "exact_match", "--n", "2", "--max-tokens", "8", "--output", *directory_ / "own"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(results("own").at("results").at(0).at("num_samples"), 2);
  EXPECT_EQ(results("own").at("config").at("suites").at(0).at("verifier"), "exact_match");
}

TEST_F(Eval, APromptMayHaveAsManyTokensAsLeaveRoomForOne) {
  const auto evaluate_prompt = [&](const std::string& output, int64_t length) {
    const json row = {{"data_source", "x"},
                      {"id", "long"},
                      {"prompt", std::string(static_cast<size_t>(length), '@')},
                      {"reward_model", {{"ground_truth", "3"}}}};
    std::ofstream(*directory_ / "long.jsonl") << row.dump() << "\n";
    return run_moerl({"eval", *directory_ / "run", "--suite", *directory_ / "long.jsonl",
                      "--verifier", "exact_match", "--n", "1", "--output", *directory_ / output});
  };
  const Outcome outcome = evaluate_prompt("long", 5000);
  EXPECT_EQ(outcome.exit_code, 1);
  std::smatch said;
  const std::regex words("the prompt of problem \\S+ has (\\d+) tokens, .* at most (\\d+)");
  ASSERT_TRUE(std::regex_search(outcome.err, said, words)) << outcome.err;
  const int64_t has = std::stoll(said[1]), most = std::stoll(said[2]);
  ASSERT_GE(has, 5000) << "a token holds more than one character";
  EXPECT_EQ(evaluate_prompt("longest", 5000 - (has - most)).exit_code, 0);
  EXPECT_EQ(results("longest").at("results").at(0).at("num_samples"), 1);
  const std::string error = evaluate_prompt("too-long", 5001 - (has - most)).err;
  EXPECT_TRUE(std::regex_search(error, words)) << error;
}

}  // namespace
}  // namespace moerl
