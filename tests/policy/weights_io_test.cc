#include "policy/weights_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/error.h"
#include "common/file.h"
#include "policy/checkpoint_reader.h"
#include "policy/safetensors_writer.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;
using policy::CheckpointReader;
using policy::SafetensorsDtype;

class WeightsIoTest : public ::testing::Test {
 protected:
  WeightsIoTest()
      : directory(fs::temp_directory_path() /
                  (std::string("moerl_weights_io_") +
                   ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(directory);
  }
  ~WeightsIoTest() override { fs::remove_all(directory); }

  std::string load_error(Transformer& model) {
    try {
      load_weights(ctx, model, directory);
    } catch (const IoError& error) {
      return error.what();
    }
    return "";
  }

  ExecContext ctx{2};
  fs::path directory;
};

void expect_same_weights(const Transformer& a, const Transformer& b) {
  ASSERT_EQ(a.parameters().size(), b.parameters().size());
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    EXPECT_EQ(a.parameters()[i]->name, b.parameters()[i]->name);
    EXPECT_TRUE(same_bits(a.parameters()[i]->value, b.parameters()[i]->value))
        << a.parameters()[i]->name;
  }
}

TEST_F(WeightsIoTest, RoundTripKeepsEveryBit) {
  for (const ModelConfig& config : {tiny_config(), plain_config()}) {
    const auto model = make_model(ctx, config, DType::kBF16);
    save_model(ctx, *model, directory, DType::kF32);
    const auto loaded = load_model(ctx, directory, DType::kBF16);
    expect_same_weights(*model, *loaded);
    EXPECT_EQ(weights_hash(*loaded), weights_hash(*model));
    EXPECT_EQ(loaded->config().to_json(DType::kF32), config.to_json(DType::kF32));
    const auto sequences = random_sequences({9}, config);
    const SequenceBatch packed = pack_sequences(sequences);
    KvCache cache(config, DType::kBF16, packed.num_blocks);
    EXPECT_TRUE(same_bits(loaded->forward(ctx, packed.batch, cache),
                          model->forward(ctx, packed.batch, cache)));
  }
}

TEST_F(WeightsIoTest, Bf16FilesHoldTheRoundedMastersAndExactBuffers) {
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  save_model(ctx, *model, directory, DType::kBF16, 20'000);
  EXPECT_TRUE(fs::exists(directory / "model.safetensors.index.json"));
  const auto loaded = load_model(ctx, directory, DType::kF32);
  for (size_t i = 0; i < model->parameters().size(); ++i) {
    const Parameter& from = *model->parameters()[i];
    std::vector<float> expected = to_floats(from.value);
    if (!from.is_buffer)
      for (float& v : expected) v = to_float(to_bf16(v));
    EXPECT_EQ(to_floats(loaded->parameters()[i]->value), expected) << from.name;
  }
}

TEST_F(WeightsIoTest, MtpCopiesOfEmbeddingAndHeadAreWritten) {
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  save_model(ctx, *model, directory, DType::kF32);
  const CheckpointReader reader(directory);
  for (const auto& [copy, original] :
       {std::pair{"model.layers.3.embed_tokens.weight", "model.embed_tokens.weight"},
        std::pair{"model.layers.3.shared_head.head.weight", "lm_head.weight"}}) {
    Tensor a = Tensor::empty({61, 40}, DType::kF32), b = Tensor::empty({61, 40}, DType::kF32);
    reader.read(ctx, copy, a);
    reader.read(ctx, original, b);
    EXPECT_EQ(to_floats(a), to_floats(b));
  }
}

TEST_F(WeightsIoTest, ModelWithoutMtpLeavesTheModuleOut) {
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  save_model(ctx, *model, directory, DType::kF32);
  ModelConfig config = tiny_config();
  config.num_nextn_predict_layers = 0;
  Transformer smaller(config, DType::kF32);
  EXPECT_EQ(load_error(smaller), "");
  EXPECT_TRUE(same_bits(smaller.parameters().back()->value, model->parameters().back()->value));
}

TEST_F(WeightsIoTest, ReportsMissingExtraAndMisshapenTensorsTogetherAndChangesNothing) {
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  policy::SafetensorsWriter writer;
  const Tensor other = Tensor::zeros({3, 5}, DType::kF32);
  for (const Parameter* p : model->parameters()) {
    if (p->name == "model.norm.weight") continue;
    const Tensor& value = p->name == "model.layers.1.mlp.gate.weight" ? other : p->value;
    writer.add(p->name, SafetensorsDtype::kF32, value.shape(), value.raw());
  }
  writer.add("model.rotary.inv_freq", SafetensorsDtype::kF32, other.shape(), other.raw());
  // Old files have these; they follow from config.json.
  writer.add("model.layers.0.self_attn.rotary_emb.inv_freq", SafetensorsDtype::kF32, other.shape(),
             other.raw());
  fs::create_directories(directory);
  writer.write(directory / "model.safetensors");
  Transformer target(tiny_config(), DType::kF32);
  const uint64_t before = weights_hash(target);
  EXPECT_THAT(
      load_error(target),
      ::testing::AllOf(
          ::testing::HasSubstr("model.norm.weight is missing"),
          ::testing::HasSubstr("model.rotary.inv_freq does not belong to this model"),
          ::testing::Not(::testing::HasSubstr("rotary_emb")),
          ::testing::HasSubstr("'model.layers.1.mlp.gate.weight' is [3, 5], expected [8, 40]")));
  EXPECT_EQ(weights_hash(target), before);
}

TEST_F(WeightsIoTest, HashSeesEveryBitAndName) {
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const uint64_t hash = weights_hash(*model);
  EXPECT_EQ(weights_hash(*make_model(ctx, tiny_config(), DType::kF32)), hash);
  for (Parameter* p : model->parameters()) {
    float& last = p->value.data<float>()[p->value.numel() - 1];
    const float kept = last;
    last = std::bit_cast<float>(std::bit_cast<uint32_t>(last) ^ 1);
    EXPECT_NE(weights_hash(*model), hash) << p->name;
    last = kept;
  }
  Parameter &a = *model->parameters()[1], &b = *model->parameters()[2];
  ASSERT_EQ(weights_hash(*model), hash);
  std::swap(a.name, b.name);
  EXPECT_NE(weights_hash(*model), hash);
}

TEST_F(WeightsIoTest, CheckpointWithoutTheMtpModuleSaysHowToGoWithout) {
  ModelConfig config = tiny_config();
  config.num_nextn_predict_layers = 0;
  save_model(ctx, *make_model(ctx, config, DType::kF32), directory, DType::kF32);
  Transformer model(tiny_config(), DType::kF32);
  const std::string error = load_error(model);
  EXPECT_THAT(error, ::testing::HasSubstr("set num_nextn_predict_layers to 0"));
  EXPECT_THAT(error, ::testing::Not(::testing::HasSubstr("is missing")));
}

TEST_F(WeightsIoTest, MissingDirectoryIsAnIoError) {
  EXPECT_THROW(load_model(ctx, directory, DType::kF32), IoError);
}

}  // namespace
}  // namespace moerl::testing
