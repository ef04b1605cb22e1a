// Models that keep no fp32 masters: the bits of a model that does, in a fraction of its memory.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/error.h"
#include "policy/optim/adamw.h"
#include "policy/safetensors_writer.h"
#include "policy/weights_io.h"
#include "tests/policy/masters_of.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/sanitized.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

class InferenceModelTest : public ::testing::Test {
 protected:
  InferenceModelTest()
      : directory(fs::temp_directory_path() /
                  (std::string("moerl_inference_") +
                   ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(directory);
  }
  ~InferenceModelTest() override { fs::remove_all(directory); }

  ExecContext ctx{2};
  fs::path directory;
};

/// Logits and, where there is a module for it, those of MTP, of a few sequences.
std::vector<Tensor> logits_of(ExecContext& ctx, const Transformer& model) {
  const auto sequences = random_sequences({9, 40}, model.config());
  const SequenceBatch packed = pack_sequences(sequences);
  std::vector<int32_t> rows(static_cast<size_t>(packed.batch.num_tokens()));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  KvCache cache(model.config(), model.dtype(), packed.num_blocks);
  const Tensor hidden = model.forward(ctx, packed.batch, cache);
  std::vector<Tensor> logits = {model.logits(ctx, hidden, rows)};
  if (model.config().num_nextn_predict_layers > 0) {
    const Tensor mtp =
        model.mtp_forward(ctx, hidden, next_tokens(sequences), packed.batch, cache, nullptr);
    logits.push_back(model.logits(ctx, mtp, rows));
  }
  return logits;
}

TEST_F(InferenceModelTest, HasTheBitsOfAModelWithMasters) {
  const ModelConfig absorbed = with_form(tiny_config(), "absorbed");
  for (const ModelConfig& config :
       {tiny_config(), absorbed, plain_config(), with_form(plain_config(), "absorbed"),
        tiny_deepseek_v2(), tiny_llama(), tiny_qwen2(), tiny_qwen3(), tiny_qwen3_moe()}) {
    for (const Precision precision :
         {Precision(DType::kBF16), Precision(DType::kF32), Precision::fp8()}) {
      fs::remove_all(directory);
      const auto model = make_model(ctx, config, precision);
      save_model(ctx, *model, directory, DType::kF32);
      Transformer loaded(config, precision, Masters::kDropped);
      for (int round = 0; round < 2; ++round)  // loading again replaces the weights
        load_weights(ctx, loaded, directory);
      EXPECT_EQ(weights_hash(ctx, loaded, directory), weights_hash(*model));
      const std::vector<Tensor> expected = logits_of(ctx, *model), got = logits_of(ctx, loaded);
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(same_bits(got[i], expected[i])) << config.model_type << precision.name() << i;
    }
  }
}

TEST_F(InferenceModelTest, WhatNeedsMastersSaysSo) {
  save_model(ctx, *make_model(ctx, tiny_config(), DType::kF32), directory, DType::kF32);
  const auto model = load_model(ctx, directory, DType::kF32, Masters::kDropped);
  const std::string reason = "the model was made for inference and keeps no fp32 masters";
  EXPECT_FALSE(model->has_masters());
  EXPECT_INVALID_ARGUMENT(weights_hash(*model), "weights_hash: " + reason);
  EXPECT_INVALID_ARGUMENT(save_model(ctx, *model, directory / "copy", DType::kF32),
                          "save_model: " + reason);
  EXPECT_FALSE(fs::exists(directory / "copy"));
  EXPECT_INVALID_ARGUMENT(model->pack(ctx), "pack: " + reason);
  EXPECT_INVALID_ARGUMENT(model->init_weights(1), "init_weights: " + reason);
  EXPECT_INVALID_ARGUMENT(model->enable_gradients(), "enable_gradients: " + reason);
  EXPECT_INVALID_ARGUMENT(AdamW(model->parameters(), {}), "gradient");
  for (const Parameter* parameter : model->parameters()) {
    if (!parameter->is_matrix()) continue;
    EXPECT_INVALID_ARGUMENT(parameter->value.data<float>(), "has no memory");
    EXPECT_INVALID_ARGUMENT(parameter->value.clone(), "has no memory");
  }
}

TEST_F(InferenceModelTest, CannotBeUsedAfterALoadThatFailedUntilItIsLoadedAgain) {
  for (const std::string form : {"expanded", "absorbed"}) {
    const ModelConfig config = with_form(tiny_config(), form);
    const auto model = make_model(ctx, config, DType::kF32);
    Transformer other(config, DType::kF32, Masters::kDropped);
    MastersOf whole(*model, ""), cut(*model, "2.self_attn.kv_b_proj.weight"), again(*model, "");
    other.load(ctx, whole);
    EXPECT_EQ(whole.num_finished(), model->parameters().size());
    EXPECT_THROW(other.load(ctx, cut), IoError);
    EXPECT_INVALID_ARGUMENT(logits_of(ctx, other), "no working image");
    for (const Parameter* parameter : std::as_const(other).parameters())
      EXPECT_EQ(parameter->value.has_memory(), !parameter->is_matrix()) << parameter->name;
    other.load(ctx, again);
    EXPECT_TRUE(same_bits(logits_of(ctx, other)[0], logits_of(ctx, *model)[0])) << form;
  }
}

/// By how much a task of a process of its own raises the memory that it has had at once.
template <typename Task>
int64_t peak_bytes(const Task& task) {
  const auto peak = [] {
    std::ifstream status("/proc/self/status");
    std::string word;
    int64_t kib = 0;
    while (status >> word && word != "VmHWM:") continue;
    status >> kib;
    return kib << 10;
  };
  int channel[2];
  EXPECT_EQ(::pipe(channel), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    int64_t grown = -1;
    try {
      const int64_t before = peak();
      task();
      grown = peak() - before;
    } catch (...) {
    }
    const bool written = ::write(channel[1], &grown, sizeof grown) == sizeof grown;
    ::_exit(written ? 0 : 1);
  }
  int64_t grown = -1;
  EXPECT_EQ(::read(channel[0], &grown, sizeof grown), static_cast<ssize_t>(sizeof grown));
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(channel[0]);
  ::close(channel[1]);
  return grown;
}

/// A checkpoint of the model with small numbers in it.
void write_checkpoint(const ModelConfig& config, const fs::path& directory) {
  const Transformer model(config, DType::kBF16, Masters::kDropped);
  int64_t largest = 0;
  for (const Parameter* p : model.parameters()) largest = std::max(largest, p->value.numel());
  const std::vector<std::byte> data(static_cast<size_t>(largest) * 2, std::byte{0x3C});
  policy::SafetensorsWriter writer;
  for (const Parameter* p : model.parameters())
    writer.add(p->name, policy::SafetensorsDtype::kBF16, p->value.shape(), data.data());
  fs::create_directories(directory);
  writer.write(directory / "model.safetensors");
}

TEST_F(InferenceModelTest, TakesTheMemoryOfItsImages) {
  if (kIsSanitized) GTEST_SKIP() << "a sanitizer's own memory is counted too";
  ModelConfig dense = ModelConfig::of_family("llama");
  dense.vocab_size = 2048;
  dense.hidden_size = 1024;
  dense.intermediate_size = 2048;
  dense.num_hidden_layers = 5;
  dense.num_attention_heads = dense.num_key_value_heads = 16;
  dense.head_dim = 64;
  ModelConfig experts = tiny_config();  // each far below 2 MiB, in fp32 too
  experts.hidden_size = 256;
  experts.intermediate_size = 512;
  experts.moe_intermediate_size = 256;
  experts.n_routed_experts = 128;
  experts.num_nextn_predict_layers = 0;
  experts.num_hidden_layers = 3;
  for (const ModelConfig& config : {dense, experts}) {
    fs::remove_all(directory);
    write_checkpoint(config, directory);
    const int64_t image = config.num_parameters() * 2;
    const auto load = [&](Masters masters) {
      return peak_bytes([&] {
        ExecContext own(1);
        Transformer model(config, DType::kBF16, masters);
        load_weights(own, model, directory);
      });
    };
    constexpr int64_t kSlack = 16 << 20;  // rows in fp32, rotary table, code
    EXPECT_GT(image, 2 * kSlack) << "the model is too small to tell";
    const int64_t inference = load(Masters::kDropped), training = load(Masters::kKept);
    EXPECT_GE(inference, image * 9 / 10) << config.model_type;
    EXPECT_LE(inference, image + kSlack) << config.model_type;
    EXPECT_GE(training, image * 27 / 10) << config.model_type;
  }
}

}  // namespace
}  // namespace moerl::testing
