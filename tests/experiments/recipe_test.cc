#include "experiments/recipe.h"

#include <gtest/gtest.h>

#include "testing/paths.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

constexpr const char* kRecipe = R"(
seed: 7
model: {config: model/config.json}
task: {name: countdown}
stages:
  - {name: warm, type: sft, sft: {train_batch_size: 4, optim: {lr: 2e-3}}}
  - name: rl
    type: grpo
    max_response_length: 90
    rollout: {n: 4}
    actor: {optim: {lr: 1e-4}}
)";

std::string config_error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("recipe.yaml", text);
  return error_of<ConfigError>([&] { Recipe::from_file(path, overrides); });
}

std::vector<std::filesystem::path> shipped_recipes() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(MOERL_SOURCE_DIR) / "experiments/configs"))
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  return paths;
}

TEST(RecipeTest, EveryShippedRecipeIsRead) {
  ASSERT_FALSE(shipped_recipes().empty());
  for (const std::filesystem::path& path : shipped_recipes()) {
    Recipe recipe;
    EXPECT_NO_THROW(recipe = Recipe::from_file(path, {})) << path;
    EXPECT_FALSE(recipe.stages.empty()) << path;
    EXPECT_EQ(recipe.directory, path.parent_path());
  }
}

TEST(RecipeTest, WrittenOutAndReadBackIsTheSame) {
  const TemporaryDirectory directory;
  std::vector<std::filesystem::path> paths = shipped_recipes();
  paths.push_back(directory.write("own.yaml", kRecipe));
  for (const std::filesystem::path& path : paths) {
    const std::string once = Recipe::from_file(path, {"num_threads=3"}).to_yaml();
    const std::string twice = Recipe::from_file(directory.write("again.yaml", once), {}).to_yaml();
    EXPECT_EQ(once, twice) << path;
    EXPECT_NE(once.find("num_threads: 3"), std::string::npos);
  }
}

TEST(RecipeTest, ReadsFieldsAndKeepsDefaults) {
  const TemporaryDirectory directory;
  const Recipe recipe = Recipe::from_file(directory.write("first.yaml", kRecipe), {});
  EXPECT_EQ(recipe.name, "first");  // of the file, as the recipe has none
  EXPECT_EQ(recipe.seed, 7);
  ASSERT_EQ(recipe.stages.size(), 2u);
  EXPECT_EQ(recipe.stages[0].sft.train_batch_size, 4);
  EXPECT_EQ(recipe.stages[0].sft.optim.lr, 2e-3);
  EXPECT_EQ(recipe.stages[1].rollout.n, 4);
  EXPECT_EQ(recipe.stages[1].actor.optim.lr, 1e-4);
  EXPECT_EQ(recipe.stages[1].actor.clip_ratio_high, 0.28);
  EXPECT_EQ(recipe.val.n, 4);
  EXPECT_EQ(recipe.max_response_length(), 90);
  EXPECT_EQ(recipe.resolve("model/config.json"), directory.path() / "model/config.json");
  EXPECT_EQ(recipe.resolve("/a/b"), "/a/b");
}

TEST(RecipeTest, OverridesReachIntoTheListOfStages) {
  const TemporaryDirectory directory;
  const Recipe recipe =
      Recipe::from_file(directory.write("r.yaml", kRecipe),
                        {"stages.1.actor.optim.lr=3e-5", "stages.0.sft.total_epochs=5", "seed=11",
                         "reward.options.format_weight=0.3", "val.max_response_length=200"});
  EXPECT_EQ(recipe.stages[1].actor.optim.lr, 3e-5);
  EXPECT_EQ(recipe.stages[0].sft.total_epochs, 5);
  EXPECT_EQ(recipe.stages[0].sft.optim.lr, 2e-3);
  EXPECT_EQ(recipe.seed, 11);
  EXPECT_EQ(recipe.reward.options.at("format_weight"), "0.3");
  EXPECT_EQ(recipe.max_response_length(), 200);
}

TEST(RecipeTest, AllViolationsAreReportedAtOnce) {
  const std::string error = config_error(R"(
seed: -1
sed: 3
model: {config: a, path: b, dtype: int8}
task: {name: countdown, countdown: {max_target: 70, max_value: 60}}
reward: {max_unscorable: 2}
stages:
  - {name: a, type: grpo, rollout: {n: 1}, train_batch_size: 2, actor: {ppo_mini_batch_size: 3}}
  - {name: a, type: ppo}
  - {name: c, type: sft, sft: {learning_rate: 1}}
  - {name: d, type: grpo, max_response_length: 10, overlong_buffer: {enable: true, len: 10}}
)",
                                         {"val.n=zero"});
  for (const char* part :
       {"seed", "sed", "exactly one of path and config", "model.dtype", "max_target",
        "reward.max_unscorable", "rollout.n must be at least 2", "ppo_mini_batch_size",
        "a name of its own", "stages.1.type", "learning_rate", "overlong_buffer.len", "val.n"})
    EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
}

TEST(RecipeTest, StagesAreNeeded) {
  EXPECT_NE(config_error("model: {config: a}\n").find("at least one stage"), std::string::npos);
}

TEST(RecipeTest, FieldsOfTheOtherTypeOfStageAreRefused) {
  EXPECT_NE(
      config_error("model: {config: a}\nstages: [{name: a, type: sft, actor: {}}]\n").find("actor"),
      std::string::npos);
}

TEST(RecipeTest, MissingFilesAreNamed) {
  EXPECT_NE(error_of<IoError>([] {
              Recipe::from_file("/nonexistent/r.yaml", {});
            }).find("/nonexistent/r.yaml"),
            std::string::npos);
}

}  // namespace
}  // namespace moerl::testing
