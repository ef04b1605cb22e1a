#include "policy/checkpoint_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"
#include "policy/checkpoint_reader.h"
#include "policy/weights_io.h"
#include "tests/policy/checkpoint_files.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;
using policy::CheckpointReader;
using policy::SafetensorsDtype;
using ::testing::HasSubstr;
using Json = nlohmann::json;

/// Wide enough for several blocks, ragged in both directions.
ModelConfig blocky_config() {
  ModelConfig config = testing::tiny_config();
  config.hidden_size = 136;
  config.intermediate_size = 150;
  config.moe_intermediate_size = 130;
  config.q_lora_rank = 132;
  config.kv_lora_rank = 140;
  config.num_hidden_layers = 2;
  config.n_routed_experts = 4;
  config.n_group = 2;
  config.topk_group = 1;
  config.num_experts_per_tok = 2;
  config.bos_token_id = 0;
  config.eos_token_id = 1;
  return config;
}

class CheckpointExportTest : public ::testing::Test {
 protected:
  fs::path write_model(const char* name, DType dtype) {
    save_model(ctx, *testing::make_model(ctx, blocky_config(), DType::kF32), root / name, dtype);
    return root / name;
  }
  fs::path exported(const fs::path& source, const char* name, ExportDtype dtype,
                    int64_t max_shard_bytes = 1 << 30) {
    export_checkpoint(ctx, source, root / name, {dtype, max_shard_bytes, {}});
    return root / name;
  }
  std::unique_ptr<Transformer> load(const fs::path& directory) {
    return load_model(ctx, directory, DType::kF32);
  }
  std::string error_of(const fs::path& source, const fs::path& target) {
    try {
      export_checkpoint(ctx, source, target, {});
    } catch (const std::exception& error) {
      return error.what();
    }
    return "accepted";
  }
  fs::path root = policy::scratch_directory();
  ExecContext ctx{2};
};

/// Names and bytes of every file of a folder.
std::map<std::string, std::string> files_of(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

TEST_F(CheckpointExportTest, TheSameTypeKeepsEveryBit) {
  const fs::path f32 = write_model("f32", DType::kF32);
  EXPECT_EQ(weights_hash(*load(exported(f32, "f32-again", ExportDtype::kF32))),
            weights_hash(*load(f32)));
  EXPECT_EQ(read_file(root / "f32-again/model.safetensors"), read_file(f32 / "model.safetensors"));
  const fs::path bf16 = exported(f32, "bf16", ExportDtype::kBF16, 1 << 18);
  EXPECT_TRUE(fs::exists(bf16 / "model.safetensors.index.json"));
  EXPECT_EQ(files_of(exported(bf16, "bf16-again", ExportDtype::kBF16, 1 << 18)), files_of(bf16));
  const fs::path fp8 = exported(f32, "fp8", ExportDtype::kFp8, 1 << 17);
  EXPECT_EQ(files_of(exported(fp8, "fp8-again", ExportDtype::kFp8, 1 << 17)), files_of(fp8));
}

TEST_F(CheckpointExportTest, Bf16IsWhatTheTrainerWouldSave) {
  const fs::path bf16 = exported(write_model("f32", DType::kF32), "bf16", ExportDtype::kBF16);
  EXPECT_EQ(read_file(bf16 / "model.safetensors"),
            read_file(write_model("saved", DType::kBF16) / "model.safetensors"));
}

TEST_F(CheckpointExportTest, Fp8SurvivesTheTrainersMasters) {
  const fs::path fp8 = exported(write_model("f32", DType::kF32), "fp8", ExportDtype::kFp8);
  save_model(ctx, *load(fp8), root / "masters", DType::kF32);
  const fs::path again = exported(root / "masters", "again", ExportDtype::kFp8);
  EXPECT_EQ(read_file(again / "model.safetensors"), read_file(fp8 / "model.safetensors"));
}

TEST_F(CheckpointExportTest, Fp8StoresProjectionsAndNothingElse) {
  const fs::path fp8 = exported(write_model("f32", DType::kF32), "fp8", ExportDtype::kFp8);
  const policy::SafetensorsFile file(fp8 / "model.safetensors");
  std::map<SafetensorsDtype, std::set<std::string>> kinds;
  for (const auto& [name, view] : file.tensors()) {
    // A layer's or an expert's number says nothing about the kind.
    std::string kind;
    for (char c : name)
      kind += c >= '0' && c <= '9' ? (kind.ends_with('#') ? "" : "#") : std::string(1, c);
    kinds[view.dtype].insert(kind);
  }
  const std::string layer = "model.layers.#.";
  std::set<std::string> fp8_kinds, scale_kinds = {layer + "mlp.gate.e_score_correction_bias"};
  for (const char* stem :
       {"self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa",
        "self_attn.kv_b_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        "mlp.experts.#.gate_proj", "mlp.experts.#.up_proj", "mlp.experts.#.down_proj",
        "mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj",
        "mlp.shared_experts.down_proj"}) {
    fp8_kinds.insert(layer + stem + ".weight");
    scale_kinds.insert(layer + stem + ".weight_scale_inv");
  }
  EXPECT_EQ(kinds[SafetensorsDtype::kF8E4M3], fp8_kinds);
  EXPECT_EQ(kinds[SafetensorsDtype::kF32], scale_kinds);
  EXPECT_EQ(kinds[SafetensorsDtype::kBF16],
            (std::set<std::string>{
                "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight",
                layer + "self_attn.q_a_layernorm.weight", layer + "self_attn.kv_a_layernorm.weight",
                layer + "mlp.gate.weight", layer + "embed_tokens.weight", layer + "enorm.weight",
                layer + "hnorm.weight", layer + "eh_proj.weight", layer + "shared_head.norm.weight",
                layer + "shared_head.head.weight"}));
  EXPECT_EQ(kinds.size(), 3u);
}

TEST_F(CheckpointExportTest, Fp8ValuesLieWithinHalfAStep) {
  const fs::path f32 = write_model("f32", DType::kF32);
  const auto before = load(f32), after = load(exported(f32, "fp8", ExportDtype::kFp8));
  for (size_t i = 0; i < before->parameters().size(); ++i) {
    const Parameter &x = *before->parameters()[i], &y = *after->parameters()[i];
    const bool fp8 = is_fp8_weight(x.name, x.value.shape().rank());
    const int64_t n = x.value.numel();
    float largest = 0;
    for (int64_t j = 0; j < n; ++j)
      largest = std::max(largest, std::fabs(x.value.data<float>()[j]));
    for (int64_t j = 0; j < n; ++j) {
      const float a = x.value.data<float>()[j], b = y.value.data<float>()[j];
      // Half a unit of a mantissa of 3 bits (8 for bf16), or of the subnormals.
      const float bound =
          fp8 ? std::max(std::fabs(a) / 16, largest / 448 / 512 / 2) : std::fabs(a) / 256;
      ASSERT_LE(std::fabs(a - b), bound * 1.0001f) << x.name;
    }
  }
}

TEST_F(CheckpointExportTest, ConfigSaysHowTheNumbersAreStored) {
  const std::string source = R"({"model_type": "llama", "torch_dtype": "bfloat16",
      "auto_map": {"AutoModel": "modeling.py"}, "quantization_config": {"quant_method": "fp8"},
      "kept": [1]})";
  const Json bf16 = parse_json(exported_config(source, ExportDtype::kBF16));
  EXPECT_EQ(bf16, parse_json(R"({"model_type": "llama", "torch_dtype": "bfloat16", "kept": [1]})"));
  EXPECT_EQ(parse_json(exported_config(source, ExportDtype::kF32)).at("torch_dtype"), "float32");
  const Json fp8 = parse_json(exported_config(R"({"dtype": "float32"})", ExportDtype::kFp8));
  EXPECT_EQ(fp8, parse_json(R"({"dtype": "bfloat16", "quantization_config":
      {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
       "weight_block_size": [128, 128]}})"));
  const Json kept = parse_json(exported_config("{}", ExportDtype::kFp8, {"lm_head"}));
  EXPECT_EQ(kept.at("quantization_config").at("modules_to_not_convert"), Json({"lm_head"}));

  exported(write_model("f32", DType::kF32), "fp8", ExportDtype::kFp8);
  const Json written = parse_json(read_file(root / "fp8/config.json"));
  EXPECT_EQ(written.at("quantization_config").at("modules_to_not_convert"),
            Json({"lm_head", "model.layers.1.mlp.gate", "model.layers.2.eh_proj",
                  "model.layers.2.mlp.gate", "model.layers.2.shared_head.head"}));
}

TEST_F(CheckpointExportTest, ConfigSpellsOutTheRouter) {
  // As transformers writes it: vLLM would make a softmax router without a bias of it.
  const Json made = parse_json(exported_config(
      R"({"model_type": "deepseek_v3", "dtype": "float32", "topk_method": null, "n_group": 1})",
      ExportDtype::kF32));
  EXPECT_EQ(made, parse_json(R"({"model_type": "deepseek_v3", "dtype": "float32",
      "topk_method": "noaux_tc", "scoring_func": "sigmoid", "n_group": 1, "topk_group": 4,
      "routed_scaling_factor": 2.5})"));
}

TEST_F(CheckpointExportTest, TokenizerFilesComeAlongOrAreMade) {
  const fs::path f32 = write_model("f32", DType::kF32), other = root / "other";
  write_file_atomic(f32 / "tokenizer.json", R"({"model": {"vocab": {"a": 1}},
      "added_tokens": [{"id": 0, "content": "<s>"}]})");
  exported(f32, "made", ExportDtype::kBF16);
  const Json made = parse_json(read_file(root / "made/tokenizer_config.json"));
  EXPECT_EQ(made.at("bos_token"), "<s>");
  EXPECT_EQ(made.at("eos_token"), "a");
  EXPECT_EQ(made.at("model_max_length"), 256);
  EXPECT_EQ(parse_json(read_file(root / "made/generation_config.json")).at("eos_token_id"), 1);

  fs::create_directories(other);
  write_file_atomic(other / "tokenizer_config.json", "{\"chat_template\": \"x\"}");
  write_file_atomic(other / "tokenizer.json", "another");
  write_file_atomic(f32 / "generation_config.json", "{\"temperature\": 0.6}");
  export_checkpoint(ctx, f32, root / "copied", {ExportDtype::kF32, 1 << 30, {other}});
  EXPECT_EQ(read_file(root / "copied/tokenizer.json"), read_file(f32 / "tokenizer.json"));
  EXPECT_EQ(read_file(root / "copied/tokenizer_config.json"), "{\"chat_template\": \"x\"}");
  EXPECT_EQ(read_file(root / "copied/generation_config.json"), "{\"temperature\": 0.6}");
}

TEST_F(CheckpointExportTest, RefusesToOverwriteAndLeavesNothingBehind) {
  const fs::path f32 = write_model("f32", DType::kF32);
  EXPECT_THAT(error_of(f32, f32), HasSubstr("exists already"));
  const std::string config = read_file(f32 / "config.json");
  std::string wider = config;
  wider.replace(wider.find("\"vocab_size\": "), 14, "\"vocab_size\": 1");
  write_file_atomic(f32 / "config.json", wider);
  EXPECT_THAT(error_of(f32, root / "out"), HasSubstr("'lm_head.weight' is [61, "));
  write_file_atomic(f32 / "config.json", config);
  std::string bytes = read_file(f32 / "model.safetensors");
  bytes.pop_back();
  write_file_atomic(f32 / "model.safetensors", bytes);
  EXPECT_THAT(error_of(f32, root / "out"), HasSubstr("the file is truncated"));
  EXPECT_FALSE(fs::exists(root / "out"));
  EXPECT_FALSE(fs::exists(root / "out.tmp"));
}

TEST_F(CheckpointExportTest, NanCannotBecomeFp8) {
  const auto model = testing::make_model(ctx, blocky_config(), DType::kF32);
  for (Parameter* p : model->parameters())
    if (p->name == "model.layers.1.mlp.experts.2.up_proj.weight")
      p->value.data<float>()[135] = std::numeric_limits<float>::quiet_NaN();
  save_model(ctx, *model, root / "nan", DType::kF32);
  try {
    exported(root / "nan", "out", ExportDtype::kFp8);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.layers.1.mlp.experts.2.up_proj.weight"));
  }
  EXPECT_FALSE(fs::exists(root / "out.tmp"));
}

}  // namespace
}  // namespace moerl
