#include "experiments/open_model.h"

#include <gtest/gtest.h>

#include "tests/experiments/temporary_directory.h"
#include "tests/experiments/tiny_directory.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe =
    "name: tiny\nmodel: {config: config.json, dtype: f32}\ntask: {name: countdown}\n"
    "stages: [{name: cold, type: sft}]\n";

class OpenModelTest : public ::testing::Test {
 protected:
  void expect_refused(const fs::path& argument, const std::vector<std::string>& parts) {
    const std::string error = error_of<IoError>([&] { find_model(argument); });
    for (const std::string& part : parts)
      EXPECT_NE(error.find(part), std::string::npos) << part << " in: " << error;
  }
  /// A run with checkpoints of these steps.
  fs::path make_run(const std::vector<std::string>& steps) {
    const fs::path run = root.path() / "run";
    fs::create_directories(run / "checkpoints");
    root.write("run/config.resolved.yaml", kRecipe);
    for (const std::string& step : steps) {
      write_tiny_directory(ctx, run / "checkpoints" / step);
      root.write("run/checkpoints/" + step + "/state.json", "{}");
    }
    return run;
  }

  ExecContext ctx{1};
  TemporaryDirectory root;
};

TEST_F(OpenModelTest, FindsDirectoriesRunsAndCheckpoints) {
  write_tiny_directory(ctx, root.path() / "hf");
  EXPECT_EQ(find_model(root.path() / "hf").directory, root.path() / "hf");
  EXPECT_TRUE(find_model(root.path() / "hf").run.empty());
  EXPECT_FALSE(recipe_of(find_model(root.path() / "hf")).has_value());

  const fs::path run = make_run({"step-000009", "step-000010"});
  const fs::path last = run / "checkpoints" / "step-000010",
                 first = run / "checkpoints/step-000009";
  EXPECT_EQ(find_model(run).directory, last);
  EXPECT_EQ(find_model(run).run, run);
  for (const fs::path& name :
       {first, first / "", first / ".", run / "checkpoints/../checkpoints/step-000009"}) {
    EXPECT_TRUE(fs::equivalent(find_model(name).directory, first));
    EXPECT_TRUE(fs::equivalent(find_model(name).run, run)) << name;
  }
  EXPECT_EQ(recipe_of(find_model(run))->model.dtype, "f32");
}

TEST_F(OpenModelTest, SaysWhatIsThereInsteadOfAModel) {
  expect_refused(root.path() / "none", {"none does not exist", "Hugging Face directory", "run"});
  expect_refused(root.write("recipe.yaml", "name: x\n"), {"recipe.yaml is a file", "recipe"});
  fs::create_directories(root.path() / "empty");
  expect_refused(root.path() / "empty", {"no config.json", "config.resolved.yaml"});
  expect_refused(make_run({}), {"a run without a checkpoint"});
  expect_refused(root.path() / "run/checkpoints", {"checkpoints has no config.json"});
  fs::create_directories(root.path() / "pickle");
  root.write("pickle/config.json", "{}");
  expect_refused(root.path() / "pickle", {"no *.safetensors"});
  root.write("pickle/pytorch_model.bin", "");
  expect_refused(root.path() / "pickle", {"pytorch_model.bin", "convert"});
  fs::create_directories(root.path() / "bare");
  root.write("bare/model.safetensors", "");
  expect_refused(root.path() / "bare", {"no config.json beside model.safetensors"});
}

TEST_F(OpenModelTest, TakesTheWorkingTypeOfTheRunAndLimitsTheTokens) {
  const fs::path run = make_run({"step-000001"});
  const OpenedModel of_run = open_model(ctx, run);
  EXPECT_EQ(of_run.transformer->dtype(), DType::kF32);
  EXPECT_EQ(of_run.transformer->config().sampled_vocab_size(), kTinyTokens);
  EXPECT_EQ(of_run.need_tokenizer().stop_token_ids, std::vector<int32_t>{1});
  EXPECT_EQ(open_model(ctx, run, {.dtype = "bf16"}).transformer->dtype(), DType::kBF16);
  EXPECT_THROW(open_model(ctx, run, {.dtype = "f16"}), std::invalid_argument);

  const fs::path hf = root.path() / "hf";
  write_tiny_directory(ctx, hf, "");
  const OpenedModel bare = open_model(ctx, hf);
  EXPECT_EQ(bare.transformer->dtype(), DType::kBF16);
  EXPECT_EQ(bare.transformer->config().sampled_vocab_size(), kTinyVocab);
  EXPECT_NE(error_of<ConfigError>([&] { bare.need_tokenizer(); }).find("tokenizer.json"),
            std::string::npos);
}

TEST_F(OpenModelTest, ReadsWhatEndsAndFramesAText) {
  const fs::path hf = root.path() / "hf";
  write_tiny_directory(ctx, hf);
  using Ids = std::vector<int32_t>;
  const auto open = [&] { return open_model(ctx, hf).need_tokenizer(); };
  const Ids a = open().tokenizer.encode("a");
  EXPECT_EQ(open().encode_framed("a"), a);
  root.write("hf/generation_config.json", R"({"eos_token_id": [5, 1]})");
  root.write("hf/tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<s>"})");
  EXPECT_EQ(open().stop_token_ids, (Ids{5, 1}));
  EXPECT_EQ(open().encode_framed("a"), (Ids{0, a[0]}));
  EXPECT_EQ(open().encode_framed("<s>a"), (Ids{0, a[0]}));  // never twice
  EXPECT_EQ(open().encode_framed(""), (Ids{0}));
  root.write("hf/tokenizer_config.json",
             R"({"add_eos_token": true, "eos_token": {"content": "</s>"}})");
  EXPECT_EQ(open().encode_framed("a"), (Ids{a[0], 1}));
  EXPECT_EQ(open().encode_framed("a</s>"), (Ids{a[0], 1}));

  root.write("hf/tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<bos>"})");
  EXPECT_NE(error_of<ConfigError>(open).find("<bos>"), std::string::npos);
  root.write("hf/tokenizer_config.json", "[]");
  EXPECT_NE(error_of<IoError>(open).find("tokenizer_config.json"), std::string::npos);
  root.write("hf/tokenizer_config.json", "{}");
  root.write("hf/generation_config.json", R"({"eos_token_id": 258})");
  EXPECT_NE(error_of<ConfigError>(open).find("258"), std::string::npos);
  root.write("hf/generation_config.json", R"({"eos_token_id": "</s>"})");
  EXPECT_NE(error_of<IoError>(open).find("eos_token_id"), std::string::npos);
}

}  // namespace
}  // namespace moerl::testing
