// Checkpoints through the command line: a V3-shaped FP8 directory is looked at, scored and
// exported, a run is exported.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"
#include "policy/weights_io.h"
#include "testing/paths.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;
using testing::Arguments;
using ::testing::HasSubstr;
using testing::Outcome;
using testing::run_moerl;

class CheckpointCliTest : public ::testing::Test {
 protected:
  /// Runs a command that must succeed. @return its standard output.
  std::string run(const Arguments& arguments) {
    const Outcome outcome = run_moerl(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }
  std::string path(const char* name) const { return (directory / name).string(); }
  testing::TempDirectory directory;
};

/// Latent queries, groups, an MTP module, blocks with ragged tails.
void write_model(const fs::path& directory) {
  ExecContext ctx(2);
  ModelConfig config = testing::tiny_config();
  config.hidden_size = 136;
  config.moe_intermediate_size = 130;
  config.kv_lora_rank = 140;
  config.bos_token_id = 0;
  config.eos_token_id = 1;
  save_model(ctx, *testing::make_model(ctx, config, DType::kF32), directory, DType::kF32);
}

TEST_F(CheckpointCliTest, AnFp8DirectoryIsCheckedScoredAndExported) {
  write_model(directory / "f32");
  run({"export", path("f32"), path("fp8"), "--dtype", "fp8", "--max-shard-size", "100KB"});
  EXPECT_TRUE(fs::exists(directory / "fp8/model.safetensors.index.json"));
  EXPECT_THAT(run({"check", path("fp8")}),
              ::testing::AllOf(HasSubstr("parameters of the MTP module"), HasSubstr("verdict: "),
                               HasSubstr("F8_E4M3")));
  run({"export", path("fp8"), path("wide"), "--dtype", "f32"});

  testing::write_text(directory / "rows.jsonl", "{\"token_ids\": [3, 14, 15, 9, 26, 5, 35, 8]}\n");
  const std::string scores = run({"score", path("fp8"), path("rows.jsonl"), "--dtype", "f32"});
  const auto row = parse_json(scores);
  ASSERT_EQ(row.at("log_probs").size(), 8u);
  EXPECT_LT(row.at("log_probs")[7].get<double>(), 0);
  // The masters of the FP8 weights, written out, are the same model.
  EXPECT_EQ(run({"score", path("wide"), path("rows.jsonl"), "--dtype", "f32"}), scores);
  // Precision fp8 rounds where f32 does not.
  const std::string rounded = run({"score", path("fp8"), path("rows.jsonl"), "--dtype", "fp8"});
  EXPECT_EQ(parse_json(rounded).at("log_probs").size(), 8u);
  EXPECT_NE(rounded, scores);
  const Outcome unknown = run_moerl({"score", path("fp8"), path("rows.jsonl"), "--dtype", "int8"});
  EXPECT_NE(unknown.exit_code, 0);
  EXPECT_THAT(unknown.err, HasSubstr("dtype is 'int8', expected bf16, f32 or fp8"));
  EXPECT_NE(run({"score", path("f32"), path("rows.jsonl"), "--dtype", "f32"}), scores);
}

TEST_F(CheckpointCliTest, ARunIsExportedFromItsNewestCheckpoint) {
  run(testing::train_arguments(directory / "run", {}, testing::tiny_recipe()));
  run({"export", path("run"), path("out"), "--dtype", "f32"});
  const fs::path newest = testing::last_checkpoint(directory / "run");
  ExecContext ctx(2);
  EXPECT_EQ(weights_hash(*load_model(ctx, directory / "out", DType::kF32)),
            weights_hash(*load_model(ctx, newest, DType::kF32)));
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json", "model.safetensors"})
    EXPECT_TRUE(fs::exists(directory / "out" / name)) << name;
  EXPECT_FALSE(fs::exists(directory / "out/optimizer.safetensors"));
}

TEST_F(CheckpointCliTest, WhatCannotBeExportedIsRefused) {
  write_model(directory / "model");
  const std::tuple<Arguments, const char*> cases[] = {
      {{"export", path("model"), path("model")}, "exists already"},
      {{"export", path("nothing"), path("out")}, "nothing"},
      {{"export", path("model"), path("out"), "--max-shard-size", "5XB"}, "5XB"},
      {{"export", path("model"), path("out"), "--max-shard-size", "-1GB"}, "-1GB"},
      {{"export", path("model"), path("out"), "--dtype", "int8"}, "int8"},
  };
  for (const auto& [arguments, part] : cases) {
    const Outcome outcome = run_moerl(arguments);
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err, HasSubstr(part));
    EXPECT_FALSE(fs::exists(directory / "out"));
  }
}

TEST_F(CheckpointCliTest, AModelThatDoesNotFitIsSaidPlainly) {
  const fs::path models = MOERL_SOURCE_DIR "/experiments/configs/models";
  EXPECT_THAT(run({"check", (models / "deepseek-v3.json").string()}),
              ::testing::AllOf(HasSubstr("671,026,419,200"), HasSubstr("70,272 bytes"),
                               HasSubstr("does not fit")));
  const Outcome outcome = run_moerl({"check", path("missing.json")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("missing.json"));
}

}  // namespace
}  // namespace moerl
