// The countdown reward, brought along in each of the ways that a user may, trains like the
// built-in.
#include <gtest/gtest.h>

#include <fstream>

#include "testing/paths.h"
#include "tests/testing/moerl_servers.h"

namespace moerl {
namespace {

using testing::Arguments;
using testing::RunResult;
using testing::train;

std::string example(const std::string& name) {
  return std::string(MOERL_SOURCE_DIR) + "/experiments/rewards/" + name;
}
const char* const kLibrary = MOERL_BUILD_DIR "/experiments/rewards/library/libcountdown_library.so";

class RewardPlugins : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c '' >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no python3";
  }
  static Arguments five_steps(Arguments overrides = {}) {
    overrides.push_back("stages.1.total_training_steps=5");
    return overrides;
  }
  void expect_weights_of_built_in(const std::string& name, const Arguments& overrides) {
    const RunResult built_in = train(directory_ / "built_in", five_steps());
    const RunResult own = train(directory_ / name, five_steps(overrides));
    ASSERT_FALSE(built_in.weights.empty());
    EXPECT_TRUE(built_in.weights == own.weights) << name;
    EXPECT_TRUE(built_in.optimizer == own.optimizer) << name;
  }
  static Arguments embedded(const std::string& kind, const std::string& what) {
    return {"reward.plugins=[{name: mine, " + kind + ": \"" + what + "\"}]",
            "reward.verifier=mine"};
  }

  testing::TempDirectory directory_;
};

TEST_F(RewardPlugins, PythonInVerlsForm) {
  expect_weights_of_built_in("verl", embedded("python", example("countdown_verl.py")));
}

TEST_F(RewardPlugins, AnotherRewardGivesOtherWeights) {
  const std::filesystem::path file = directory_ / "length.py";
  std::ofstream(file) << "def reward(completions, **kwargs):\n"
                         "    return [len(c) / 100 for c in completions]\n";
  const RunResult built_in = train(directory_ / "built_in", five_steps());
  const RunResult own = train(directory_ / "own", five_steps(embedded("python", file.string())));
  EXPECT_FALSE(built_in.weights == own.weights);
}

TEST_F(RewardPlugins, PythonInTrlsForm) {
  expect_weights_of_built_in("trl", embedded("python", example("countdown_trl.py")));
}

TEST_F(RewardPlugins, ASharedLibrary) {
  expect_weights_of_built_in("library", embedded("library", kLibrary));
}

TEST_F(RewardPlugins, ACommandWithJsonLines) {
  expect_weights_of_built_in("command",
                             embedded("command", "python3 " + example("countdown_jsonl.py")));
}

TEST_F(RewardPlugins, AServerInPython) {
  // Debian's Python has grpc where the first one in PATH may not.
  std::string python;
  for (const std::string each : {"python3", "/usr/bin/python3"})
    if (python.empty() &&
        std::system((each + " -c 'import grpc, google.protobuf' >/dev/null 2>&1").c_str()) == 0)
      python = each;
  if (python.empty()) GTEST_SKIP() << "python3-grpcio and python3-protobuf are not installed";
  testing::ChildProcess server("/usr/bin/env",
                               {python, example("countdown_grpc.py"), "--port", "0"});
  const std::string mark = "reward service on port ";
  ASSERT_TRUE(server.has_written(mark)) << server.err();
  ASSERT_TRUE(server.has_written("\n"));
  const std::string port =
      std::to_string(std::stoi(server.out().substr(server.out().find(mark) + mark.size())));
  expect_weights_of_built_in(
      "grpc", {"reward.addresses=[\"127.0.0.1:" + port + "\"]", "reward.verifier=countdown_grpc"});
}

TEST_F(RewardPlugins, AServiceOfOnesOwn) {
  testing::MoerlServer server =
      testing::MoerlServer::reward(0, {"--python", example("countdown_verl.py"), "--name", "mine"});
  expect_weights_of_built_in(
      "served", {"reward.addresses=[\"" + server.address() + "\"]", "reward.verifier=mine"});
}

TEST_F(RewardPlugins, APluginThatFailsStopsTheRunAndShowsTheSamples) {
  const std::filesystem::path file = directory_ / "broken.py";
  std::ofstream(file) << "def compute_score(data_source, solution_str, ground_truth, "
                         "extra_info=None):\n    return float('nan')\n";
  const testing::Outcome outcome = testing::run_moerl(
      testing::train_arguments(directory_ / "run", five_steps(embedded("python", file.string()))));
  EXPECT_EQ(outcome.exit_code, 1);
  for (const char* part : {"could not be scored", "reward.max_unscorable", "returned nan",
                           "reward plug-in 'mine'", "response '", "numbers"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
}

TEST_F(RewardPlugins, APluginThatDoesNotLoadIsRefusedBeforeTraining) {
  const testing::Outcome outcome = testing::run_moerl(testing::train_arguments(
      directory_ / "run", five_steps(embedded("python", "/no/such/reward.py"))));
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("/no/such/reward.py"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace moerl
