// The command line: what it prints, what it refuses, and how it says so.
#include <gtest/gtest.h>

#include "kernels/isa.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

using testing::Arguments;
using testing::Outcome;
using testing::run_moerl;
using testing::tiny_recipe;

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in:\n" << text;
}
/// One error, in words, on standard error.
void expect_error(const Outcome& outcome, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("moerl: error: ")) << outcome.err;
  EXPECT_EQ(outcome.err.find("error: ", 14), std::string::npos) << outcome.err;
  expect_parts(outcome.err, parts);
}

TEST(Cli, EveryCommandExplainsItsArguments) {
  const std::pair<Arguments, std::vector<std::string>> commands[] = {
      {{},
       {"train", "check", "export", "judge", "eval", "data", "score", "sample", "tokenize", "serve",
        "doctor", "bench", "MOERL_ISA", "MOERL_CUBLASLT"}},
      {{"train"}, {"RECIPE", "overrides", "--run-dir"}},
      {{"check"}, {"RECIPE", "overrides"}},
      {{"export"}, {"SOURCE", "DIR", "--dtype", "--max-shard-size", "fp8"}},
      {{"judge"},
       {"VERIFIER", "FILE", "--option", "--workers", "--timeout-s", "countdown", "gsm8k"}},
      {{"score"}, {"MODEL", "FILE", "--entropy", "--experts", "--output", "--dtype", "log_probs"}},
      {{"sample"},
       {"MODEL", "--prompt", "--file", "--seed", "--thinking", "--raw", "deepseek_r1", "qwen3"}},
      {{"tokenize"}, {"MODEL", "FILE", "--plain-specials"}},
      {{"serve"}, {"rollout", "reward", "rollout.addresses"}},
      {{"serve", "rollout"}, {"RECIPE", "overrides", "--address"}},
      {{"serve", "reward"}, {"--address", "--workers", "--timeout-s"}},
      {{"serve", "openai"}, {"MODEL", "--address", "--api-key-file"}},
      {{"eval"}, {"MODEL", "--suite", "--workers", "compare", "rescore", "export", "gsm8k"}},
      {{"eval", "compare"}, {"A", "B", "--output"}},
      {{"eval", "rescore"}, {"DIR", "--verifier", "--option"}},
      {{"eval", "export"}, {"lm-eval", "lighteval", "inspect"}},
      {{"data"}, {"get", "list", "MOERL_DATA"}},
      {{"doctor"}, {"CPU"}},
      {{"bench"}, {"--benchmark_filter"}},
  };
  for (auto [command, parts] : commands) {
    command.push_back("--help");
    const Outcome outcome = run_moerl(command);
    EXPECT_EQ(outcome.exit_code, 0) << command[0];
    EXPECT_TRUE(outcome.err.empty()) << outcome.err;
    expect_parts(outcome.out, parts);
  }
}

TEST(Cli, SaysItsVersion) {
  const Outcome outcome = run_moerl({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.out.starts_with("moerl ")) << outcome.out;
}

TEST(Cli, BenchRunsTheBenchesOfTheModelAndOfItsOperations) {
  const Outcome outcome = run_moerl({"bench", "--", "--benchmark_list_tests"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_parts(outcome.out, {"decode/absorbed:1/batch:64", "prefill", "train_step", "linear"});
}

TEST(Cli, ArgumentsThatDoNotExistAreRefused) {
  for (const Arguments& arguments : {Arguments{},
                                     {"dance"},
                                     {"train"},
                                     {"train", tiny_recipe(), "--fast"},
                                     {"serve"},
                                     {"judge", "countdown"},
                                     {"serve", "reward", "--workers", "-1"}}) {
    const Outcome outcome = run_moerl(arguments);
    EXPECT_GT(outcome.exit_code, 0);
    EXPECT_FALSE(outcome.err.empty());
  }
}

TEST(Cli, ARecipeThatIsWrongIsRefusedByName) {
  testing::TempDirectory directory;
  const auto train = [&](const Arguments& overrides, const std::string& recipe = tiny_recipe()) {
    return run_moerl(testing::train_arguments(directory / "run", overrides, recipe));
  };
  expect_error(train({}, "/nowhere/recipe.yaml"), {"/nowhere/recipe.yaml"});
  expect_error(train({"stages.1.actor.optim.learning_rate=1"}), {"learning_rate"});
  expect_error(train({"stages.7.type=sft"}), {"stages"});
  expect_error(train({"seed"}), {"seed"});
  expect_error(train({"seed=many"}), {"seed", "many"});
  expect_error(train({"model.dtype=f64"}), {"dtype", "f64", "bf16"});
  expect_error(train({"model.config=missing.json"}), {"missing.json"});
  expect_error(train({"task.countdown.val_size=100000"}), {"val_size", "100000"});
  expect_error(train({"reward.verifier=oracle"}), {"oracle"});
  expect_error(train({"stages.1.train_batch_size=0"}), {"train_batch_size"});
  expect_error(train({"rollout.kv_cache_gb=1e-9"}), {"kv_cache"});
  testing::write_text(directory / "broken.yaml", "name: [unclosed\n");
  expect_error(train({}, directory / "broken.yaml"), {"broken.yaml"});
  testing::write_text(directory / "list.yaml", "- 1\n- 2\n");
  expect_error(train({}, directory / "list.yaml"), {"list.yaml"});
}

TEST(Cli, AnInstructionLevelThatDoesNotExistIsRefused) {
  testing::TempDirectory directory;
  const Outcome outcome =
      run_moerl(testing::train_arguments(directory / "run"), {{"MOERL_ISA", "sse9"}});
  expect_error(outcome, {"sse9", "portable"});
}

TEST(Cli, CheckShowsTheRecipeAndWhatItNeeds) {
  const Outcome outcome = run_moerl({"check", tiny_recipe(), "seed=77"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_parts(outcome.out, {"seed: 77", "lr: 0.001", "weights", "kv cache", "optimizer", "total",
                             "cold-start: sft, 30 steps", "grpo: grpo, 4 steps"});
}

TEST(Cli, CheckReportsEveryErrorAtOnce) {
  expect_error(run_moerl({"check", tiny_recipe(), "seed=-1", "model.dtype=f16", "colour=blue",
                          "stages.1.rollout.n=1"}),
               {"seed", "f16", "colour", "rollout.n"});
  expect_error(run_moerl({"check", tiny_recipe(), "reward.verifier=oracle",
                          "stages.1.max_response_length=4000", "rollout.kv_cache_gb=1e6"}),
               {"oracle", "max_position_embeddings", "memory"});
}

constexpr const char* kTruth = R"("ground_truth": "{\"numbers\": [3, 5], \"target\": 15}")";
std::string judge_row(const std::string& response, int number) {
  return "{\"response\": \"" + response + "\", " + kTruth +
         ", \"number\": " + std::to_string(number) + "}\n";
}

TEST(Cli, JudgePrintsTheRowsBackInOrder) {
  testing::TempDirectory directory;
  std::string rows;
  for (int i = 0; i < 200; ++i)
    rows += judge_row(
        i % 3 == 0 ? "<think>x</think><answer>3 * 5</answer>" : "<answer>3 + 5</answer>", i);
  testing::write_text(directory / "rows.jsonl", rows);
  const Outcome from_file =
      run_moerl({"judge", "countdown", directory / "rows.jsonl", "--workers", "3"});
  ASSERT_EQ(from_file.exit_code, 0) << from_file.err;
  std::istringstream lines(from_file.out);
  int number = 0;
  for (std::string line; std::getline(lines, line); ++number) {
    const nlohmann::json row = parse_json(line);
    EXPECT_EQ(row.at("number"), number);
    EXPECT_EQ(row.at("status"), number % 3 == 0 ? "correct" : "incorrect") << line;
    EXPECT_EQ(row.at("extracted"), number % 3 == 0 ? "3 * 5" : "3 + 5");
    EXPECT_NEAR(row.at("score"), number % 3 == 0 ? 1.1 : 0.1, 1e-12) << line;
  }
  EXPECT_EQ(number, 200);
  EXPECT_FALSE(from_file.err.empty());  // the summary

  const Outcome from_input = run_moerl({"judge", "countdown", "-"}, {}, rows);
  EXPECT_EQ(from_input.exit_code, 0) << from_input.err;
  EXPECT_EQ(from_input.out, from_file.out);
}

TEST(Cli, JudgeSaysByItsExitStatusWhatItFound) {
  testing::TempDirectory directory;
  const std::filesystem::path path = directory / "rows.jsonl", report = directory / "report.txt";
  const auto row = [](const char* label, const char* gold) {
    return std::string(R"({"response": "<answer>1</answer>", "ok": )") + label +
           R"(, "ground_truth": ")" + gold + "\"}\n";
  };
  const auto judge = [&](const std::string& rows) {
    testing::write_text(path, rows);
    return run_moerl({"judge", "exact_match", path, "--label", "ok", "--report", report});
  };
  EXPECT_EQ(judge(row("true", "1") + row("false", "2")).exit_code, 0);
  const Outcome disagrees = judge(row("true", "1") + row("true", "2"));
  EXPECT_EQ(disagrees.exit_code, 2);
  EXPECT_NE(disagrees.err.find("1 of 2 labels agree"), std::string::npos) << disagrees.err;
  EXPECT_NE(testing::file_bytes(report).find("\n2       true     incorrect"), std::string::npos)
      << testing::file_bytes(report);
  EXPECT_EQ(judge(row("true", "1") + row("true", "")).exit_code, 3);
}

TEST(Cli, JudgeNamesFileAndLineOfABadRow) {
  testing::TempDirectory directory;
  const std::filesystem::path path = directory / "rows.jsonl";
  for (const std::string bad : {"not json\n", "[1]\n", "{\"response\": 7}\n", "{}\n"}) {
    testing::write_text(path, judge_row("<answer>1</answer>", 0) + judge_row("", 1) + bad);
    expect_error(run_moerl({"judge", "countdown", path}), {path.string() + ":3"});
  }
  expect_error(run_moerl({"judge", "countdown", directory / "none.jsonl"}), {"none.jsonl"});
  expect_error(run_moerl({"judge", "oracle", path}), {"oracle", "countdown"});
  expect_error(run_moerl({"judge", "countdown", path, "-o", "colour=blue"}), {"colour"});
}

TEST(Cli, DoctorPrintsTheLevelOfTheCpu) {
  const Outcome outcome = run_moerl({"doctor"}, {{"MOERL_ISA", "portable"}});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_parts(
      outcome.out,
      {"cpu level        portable (highest here: " + std::string(isa_name(detect_isa())) + ")",
       "memory", "cuda", "cublaslt", "grpc", "sqlite"});
}

TEST(Cli, CublasLtIsLeftOutWhereItIsNotWanted) {
  expect_parts(run_moerl({"doctor"}, {{"MOERL_CUBLASLT", "0"}}).out,
               {"cublaslt         not used (MOERL_CUBLASLT is 0)"});
  expect_error(run_moerl({"doctor"}, {{"MOERL_CUBLASLT", "off"}}),
               {"MOERL_CUBLASLT is 'off', expected 0 or 1"});
}

TEST(Cli, ARunLeavesAReportAndTensorBoardEvents) {
  testing::TempDirectory directory;
  const Outcome outcome = run_moerl(testing::train_arguments(directory / "run"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_parts(outcome.err, {"held-out accuracy", (directory / "run").string()});
  const std::string report = testing::file_bytes(directory / "run/report.html");
  expect_parts(report, {"<html", "<svg", "tiny", "critic/rewards/mean", "</html>"});
  int events = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory / "run/tensorboard")) {
    events += entry.path().filename().string().starts_with("events.out.tfevents.");
    EXPECT_GT(entry.file_size(), 1000u);
  }
  EXPECT_EQ(events, 1);
  // What was trained is a model directory that another recipe can start from.
  const std::filesystem::path model = testing::last_checkpoint(directory / "run");
  // The run and its checkpoint name the same model, whose scores can be asked for.
  const std::string row = "{\"text\": \"Numbers: 3 5.\"}\n";
  const Outcome scores = run_moerl({"score", directory / "run", "-"}, {}, row);
  ASSERT_EQ(scores.exit_code, 0) << scores.err;
  expect_parts(scores.err, {"1 rows", "perplexity", "tokens/s"});
  const Outcome to_file =
      run_moerl({"score", model, "-", "-o", directory / "scores.jsonl", "--threads", "1"}, {}, row);
  ASSERT_EQ(to_file.exit_code, 0) << to_file.err;
  EXPECT_EQ(testing::file_bytes(directory / "scores.jsonl"), scores.out);
  const auto scored = parse_json(scores.out);
  EXPECT_EQ(scored.at("log_probs").size(), scored.at("token_ids").size());
  expect_error(
      run_moerl({"score", directory / "run", "-", "-o", directory / "bad.jsonl"}, {}, "{}\n"),
      {"standard input:1", "token_ids"});
  EXPECT_FALSE(std::filesystem::exists(directory / "bad.jsonl"));
  // Sampling from it: one prompt, a file, a chat; the text is a function of the seed.
  const std::string prompt = "Numbers: 3 5. Target: 15.\n<think>\n";
  const Arguments limits = {"--max-tokens", "20", "--seed", "7"};
  const auto sampled = [&](Arguments arguments, const std::string& input = {}) {
    arguments.insert(arguments.begin(), {"sample", directory / "run"});
    arguments.insert(arguments.end(), limits.begin(), limits.end());
    const Outcome outcome = run_moerl(arguments, {}, input);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    expect_parts(outcome.err, {"tokens/s"});
    return outcome.out;
  };
  const nlohmann::json prompt_row = {{"prompt", prompt}};
  const std::string answer = sampled({"--prompt", prompt});
  EXPECT_GT(answer.size(), 5u);
  const auto answered = parse_json(sampled({"--file", "-"}, prompt_row.dump()));
  EXPECT_EQ(answered.at("response").get<std::string>() + "\n", answer);
  EXPECT_EQ(sampled({}, "Numbers: 3 5. Target: 15.\n"),
            sampled({"--prompt", "Numbers: 3 5. Target: 15."}));
  expect_parts(sampled({"--prompt", prompt, "-n", "2"}), {"=== sample 0", "=== sample 1"});
  expect_error(run_moerl({"sample", directory / "run", "--chat-template", "vicuna", "-p", "x"}),
               {"vicuna", "deepseek_r1", "--raw"});
  expect_error(run_moerl({"sample", directory / "run", "--top-p", "2", "-p", "x"}), {"top_p"});
  const std::string tokenized = run_moerl({"tokenize", model, "-"}, {}, row).out;
  EXPECT_EQ(parse_json(tokenized).at("token_ids"), scored.at("token_ids"));
  expect_error(run_moerl({"score", directory / "none", "-"}),
               {"none does not exist", "run directory"});
  const Outcome next = run_moerl(testing::train_arguments(
      directory / "next", {"model.config=", "model.path=" + model.string()}));
  EXPECT_EQ(next.exit_code, 0) << next.err;
}

}  // namespace
}  // namespace moerl
