#include "experiments/memory_budget.h"

#include <gtest/gtest.h>

#include "experiments/model_source.h"
#include "kernels/attention/attention.h"
#include "kernels/cuda/backend.h"
#include "testing/paths.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

std::filesystem::path configs() {
  return std::filesystem::path(MOERL_SOURCE_DIR) / "experiments/configs";
}
/// The countdown recipe with few demonstrations, which are quick to make.
Recipe countdown(std::vector<std::string> overrides = {}) {
  overrides.push_back("task.countdown.demonstrations=100");
  return Recipe::from_file(configs() / "countdown.yaml", overrides);
}
bool mentions(const std::vector<std::string>& problems, const std::string& part) {
  for (const std::string& problem : problems)
    if (problem.find(part) != std::string::npos) return true;
  return false;
}

TEST(MemoryBudgetTest, CountsWhatTheRunHolds) {
  const Recipe recipe = countdown({"rollout.kv_cache_gb=0.5", "rollout.num_workers=3"});
  const ModelConfig model = load_model_config(recipe);
  const MemoryBudget budget = memory_budget(recipe, model);
  const int64_t n = model.num_parameters();
  EXPECT_EQ(budget.masters, 4 * n);
  EXPECT_EQ(budget.gradients, 4 * n);
  EXPECT_EQ(budget.optimizer, 8 * n);
  EXPECT_EQ(budget.working_weights, 4 * n);  // two images of bf16
  EXPECT_EQ(budget.reference, 0);
  EXPECT_EQ(budget.kv_cache, 3 * (int64_t{1} << 29));
  EXPECT_GT(budget.activations, 0);
  EXPECT_EQ(budget.workspace, 3 * 512 * model.vocab_size * 4);  // each engine's logits
  EXPECT_EQ(budget.total(), budget.masters + budget.gradients + budget.optimizer +
                                budget.working_weights + budget.kv_cache + budget.activations +
                                budget.workspace);
  const std::string table = memory_table(recipe, budget, int64_t{7} << 30);
  for (const char* line :
       {"kv cache                    1.500 GiB", "available                   7.000 GiB"})
    EXPECT_NE(table.find(line), std::string::npos) << table;
}

// The loss makes logits, and in backward gradients of them, for a few rows at a time.
TEST(MemoryBudgetTest, WorkspaceIsTheLargestOfWhatIsThereAtATime) {
  const Recipe elsewhere = countdown({"rollout.addresses=[\"h:1\"]"});
  ModelConfig model = load_model_config(elsewhere);
  EXPECT_EQ(memory_budget(elsewhere, model).workspace, 512 * model.vocab_size * 6);
  model.vocab_size = 1 << 20;  // 64 rows
  EXPECT_EQ(memory_budget(elsewhere, model).workspace, int64_t{64} * 6 << 20);
  const Recipe on_gpu = countdown({"rollout.addresses=[\"h:1\"]", "device=cuda"});
  model.max_position_embeddings = kernels::kKvSplit;
  EXPECT_EQ(memory_budget(on_gpu, model).workspace, int64_t{64} * 6 << 20);
  ++model.max_position_embeddings;  // positions of a second split
  EXPECT_EQ(memory_budget(on_gpu, model).workspace,
            (int64_t{64} * 6 << 20) + kernels::kAttentionWorkspaceBytes);
}

TEST(MemoryBudgetTest, SettingsChangeTheirPart) {
  const Recipe base = countdown();
  const ModelConfig model = load_model_config(base);
  const MemoryBudget budget = memory_budget(base, model);
  EXPECT_EQ(memory_budget(countdown({"rollout.addresses=[\"h:1\"]"}), model).kv_cache, 0);
  EXPECT_GT(memory_budget(countdown({"stages.1.actor.use_kl_loss=true"}), model).reference,
            model.num_parameters() * 4);
  EXPECT_EQ(memory_budget(countdown({"model.dtype=f32"}), model).working_weights,
            2 * budget.working_weights);
  EXPECT_EQ(memory_budget(countdown({"device=cuda"}), model).working_weights,
            budget.working_weights / 2);
  // In FP8 a byte of each direction, also on CUDA; and a scale for each 16384 of them.
  const int64_t in_fp8 = model.num_fp8_parameters(), plain = model.num_parameters() - in_fp8;
  EXPECT_GT(in_fp8, plain);
  EXPECT_EQ(memory_budget(countdown({"model.dtype=fp8"}), model).working_weights,
            4 * plain + 2 * in_fp8 + 2 * in_fp8 / 4096);
  EXPECT_EQ(memory_budget(countdown({"model.dtype=fp8", "device=cuda"}), model).working_weights,
            2 * plain + 2 * in_fp8 + 2 * in_fp8 / 4096);
  EXPECT_EQ(budget.decode_graphs, 0);
  const MemoryBudget on_gpu = memory_budget(countdown({"device=cuda"}), model);
  EXPECT_GT(on_gpu.decode_graphs, 512 * model.vocab_size * 4);  // logits of max_num_seqs rows
  EXPECT_EQ(
      memory_budget(countdown({"device=cuda", "rollout.enforce_eager=true"}), model).decode_graphs,
      0);
  EXPECT_EQ(
      memory_budget(countdown({"device=cuda", "rollout.addresses=[\"h:1\"]"}), model).decode_graphs,
      0);
  EXPECT_EQ(budget.product_proof, 0);
  EXPECT_GT(on_gpu.product_proof, model.vocab_size * model.hidden_size * 2);
  EXPECT_GT(on_gpu.product_proof, 2 * model.intermediate_size * model.hidden_size * 2);
  EXPECT_EQ(on_gpu.total() - on_gpu.product_proof - on_gpu.decode_graphs - on_gpu.workspace,
            budget.total() - budget.workspace - budget.working_weights + on_gpu.working_weights);
  EXPECT_EQ(memory_budget(countdown({"device=cuda", "model.dtype=f32"}), model).product_proof, 0);
  const std::vector<std::string> recompute = {"stages.0.sft.recompute=true",
                                              "stages.1.actor.recompute=true"};
  EXPECT_LT(memory_budget(countdown(recompute), model).activations, budget.activations);
  const std::vector<std::string> smaller = {"stages.0.sft.max_token_len=1024",
                                            "stages.1.actor.ppo_max_token_len=1024"};
  EXPECT_LT(memory_budget(countdown(smaller), model).activations, budget.activations);
}

TEST(MemoryBudgetTest, RanksDivideOptimizerAndExperts) {
  const ModelConfig model = load_model_config(countdown());
  const int64_t n = model.num_parameters(), routed = model.num_routed_parameters();
  const std::vector<std::string> four = {"parallel.data_parallel_size=4",
                                         "stages.1.actor.use_kl_loss=true"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), four.begin(), four.end());
    return memory_budget(countdown(std::move(more)), model);
  };
  const MemoryBudget one = with({}), two = with({"parallel.expert_parallel_size=2"});
  EXPECT_EQ(one.masters, 4 * n);
  EXPECT_EQ(one.gradients, 5 * n);
  EXPECT_EQ(one.optimizer, 2 * n);
  EXPECT_EQ(two.masters, 4 * (n - routed / 2));
  EXPECT_EQ(two.gradients, 5 * n);  // of half the experts, for two ranks
  EXPECT_EQ(two.optimizer, 2 * n);
  EXPECT_EQ(two.working_weights, 4 * (n - routed / 2));
  EXPECT_EQ(two.reference, 6 * (n - routed / 2));
  EXPECT_LT(with({"parallel.expert_parallel_size=2", "model.dtype=fp8"}).working_weights,
            with({"model.dtype=fp8"}).working_weights);
  EXPECT_EQ(with({"parallel.expert_parallel_size=2", "rollout.addresses=[\"h:1\"]"}).masters,
            4 * n);
}

TEST(CheckRecipeTest, ExpertsMustDivideAmongTheRanks) {
  EXPECT_TRUE(mentions(
      check_recipe(countdown({"parallel.data_parallel_size=3", "parallel.expert_parallel_size=3"}))
          .problems,
      "routed experts, expected a multiple of parallel.expert_parallel_size = 3"));
  EXPECT_THROW(countdown({"parallel.expert_parallel_size=2"}), ConfigError);
  EXPECT_THROW(countdown({"parallel.data_parallel_size=2", "parallel.expert_parallel_size=2",
                          "rollout.num_workers=2"}),
               ConfigError);
}

TEST(CheckRecipeTest, ADeviceThatIsNotThereIsAProblem) {
  if (kernels::cuda_is_available()) GTEST_SKIP() << "a CUDA device is here";
  EXPECT_TRUE(mentions(check_recipe(countdown({"device=cuda"})).problems, "CUDA"));
}

TEST(CheckRecipeTest, ARunMeantForAnotherDeviceIsComparedWithThatOnesMemory) {
  const Recipe recipe = countdown({"device=cuda", "rollout.kv_cache_gb=20"});
  const CheckedRecipe fits = check_recipe(recipe, int64_t{24} << 30);
  EXPECT_TRUE(fits.problems.empty()) << fits.problems[0];
  EXPECT_NE(fits.summary.find("available                  24.000 GiB"), std::string::npos)
      << fits.summary;
  EXPECT_TRUE(mentions(check_recipe(recipe, int64_t{20} << 30).problems,
                       "the CUDA device has  20.000 GiB; lower the key-value cache"));
}

TEST(CheckRecipeTest, EveryShippedRecipeCanRun) {
  for (const auto& entry : std::filesystem::directory_iterator(configs())) {
    if (entry.path().extension() != ".yaml") continue;
    const Recipe recipe = Recipe::from_file(entry.path(), {});
    if (recipe.task.name == "jsonl") continue;  // needs files that are not part of the source
    const CheckedRecipe checked = check_recipe(recipe);
    EXPECT_TRUE(checked.problems.empty()) << entry.path() << ": " << checked.problems[0];
    for (const char* part : {"parameters", "kv cache", "training rows", "total", "available"})
      EXPECT_NE(checked.summary.find(part), std::string::npos) << part;
    for (const StageConfig& stage : recipe.stages)
      EXPECT_NE(checked.summary.find(stage.name), std::string::npos);
  }
}

TEST(CheckRecipeTest, AllProblemsAreReportedTogether) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("r.yaml", R"(
model: {config: missing/config.json}
task: {name: jsonl, train_files: [missing.jsonl]}
reward: {verifier: nonsense}
stages: [{name: warm, type: sft}]
)");
  const CheckedRecipe checked = check_recipe(Recipe::from_file(path, {}));
  EXPECT_TRUE(mentions(checked.problems, "missing/config.json"));
  EXPECT_TRUE(mentions(checked.problems, "missing.jsonl"));
  EXPECT_TRUE(mentions(checked.problems, "nonsense"));
  EXPECT_TRUE(mentions(checked.problems, "stage warm needs demonstrations"));
}

TEST(CheckRecipeTest, WhatDoesNotFitTheModelIsNamed) {
  EXPECT_TRUE(mentions(check_recipe(countdown({"reward.options.no_such=1"})).problems, "no_such"));
  EXPECT_TRUE(mentions(check_recipe(countdown({"stages.1.max_response_length=5000"})).problems,
                       "max_position_embeddings"));
  EXPECT_TRUE(mentions(check_recipe(countdown({"rollout.kv_cache_gb=1e6"})).problems,
                       "rollout.kv_cache_gb"));
  EXPECT_TRUE(
      mentions(check_recipe(countdown({"task.countdown.val_size=1000000"})).problems, "val_size"));
}

TEST(ModelSourceTest, TheTasksTokenizerMustFitTheModel) {
  const Recipe recipe = countdown();
  const TaskData task = load_task(recipe.task, recipe.directory, 1);
  ModelConfig model = load_model_config(recipe);
  const LoadedTokenizer loaded = load_tokenizer(recipe, task, model);
  EXPECT_EQ(loaded.stop_token_ids,
            std::vector<int32_t>{loaded.tokenizer.token_id("<｜end▁of▁sentence｜>").value()});
  EXPECT_EQ(make_policy(recipe, loaded.tokenizer, Masters::kDropped)->config().sampled_vocab_size(),
            loaded.tokenizer.vocab_size());
  model.further_eos_token_ids = {7, 3};
  EXPECT_EQ(load_tokenizer(recipe, task, model).stop_token_ids,
            (std::vector<int32_t>{loaded.stop_token_ids[0], 7, 3}));
  model.vocab_size = 100;
  EXPECT_NE(error_of<ConfigError>([&] { load_tokenizer(recipe, task, model); }).find("100"),
            std::string::npos);
  model = load_model_config(recipe);
  model.eos_token_id.reset();
  EXPECT_NE(
      error_of<ConfigError>([&] { load_tokenizer(recipe, task, model); }).find("eos_token_id"),
      std::string::npos);
  EXPECT_NE(error_of<ConfigError>([&] {
              load_tokenizer(recipe, TaskData{}, load_model_config(recipe));
            }).find("model.tokenizer"),
            std::string::npos);
}

TEST(ModelSourceTest, TheRecipeChoosesTheFormOfAttention) {
  EXPECT_EQ(load_model_config(countdown({"model.mla_form=absorbed"})).mla_form, "absorbed");
}

}  // namespace
}  // namespace moerl::testing
