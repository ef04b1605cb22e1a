// Whole models on Device::kCuda: in fp32 the CPU's bits; in bf16 the contract within the backend.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>

#include "common/file.h"
#include "policy/optim/adamw.h"
#include "policy/top_log_probs.h"
#include "tests/policy/masters_of.h"
#include "tests/policy/tiny_model.h"
#include "tests/simt/orders.h"

namespace moerl::testing {
namespace {

struct ModelCase {
  std::string name;
  ModelConfig config;
};
/// Absorbed, with heads of 64 and 32: attention in bf16 runs on tensor cores. Dense, so that its
/// rounding sends no token to another expert.
ModelConfig tensor_core_config() {
  ModelConfig c = with_form(tiny_config(), "absorbed");
  c.kv_lora_rank = c.qk_rope_head_dim = 32;
  c.first_k_dense_replace = c.num_hidden_layers;
  c.num_nextn_predict_layers = 0;
  return c;
}
std::vector<ModelCase> models() {
  return {{"Expanded", tiny_config()},
          {"Absorbed", with_form(tiny_config(), "absorbed")},
          {"Plain", plain_config()},
          {"DeepseekV2", tiny_deepseek_v2()},
          {"Llama", tiny_llama()},
          {"Qwen3Moe", tiny_qwen3_moe()},
          {"TensorCores", tensor_core_config()}};
}

/// Two contexts, and everything that is a function of one.
class ModelOnDeviceTest : public ::testing::TestWithParam<ModelCase> {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    set_run_order(run_orders().back());
    device_.emplace(1, detect_isa(), Device::kCuda);
  }

  ModelConfig config() const { return GetParam().config; }
  LossOptions options(bool recompute = false) const {
    return {.recompute = recompute,
            .balance_alpha = 0.1,
            .mtp_weight = config().num_nextn_predict_layers > 0 ? 0.3 : 0};
  }
  /// Hidden states and logits, in one pass.
  std::vector<Tensor> forward(ExecContext& ctx, const Transformer& model) const {
    const SequenceBatch packed = pack_sequences(sequences_);
    KvCache cache(config(), model.dtype(), packed.num_blocks, model.device());
    const Tensor hidden = model.forward(ctx, packed.batch, cache);
    const std::vector<int32_t> rows = {3, 36, 0, 20};
    return {hidden.to(Device::kCpu), model.logits(ctx, hidden, rows).to(Device::kCpu)};
  }
  /// Hidden states of the sequences, fed in pieces side by side.
  Tensor forward_in_pieces(ExecContext& ctx, const Transformer& model, int64_t piece) const {
    const SequenceBatch packed = pack_sequences(sequences_);
    KvCache cache(config(), model.dtype(), packed.num_blocks, model.device());
    Tensor hidden = Tensor::empty({packed.batch.num_tokens(), config().hidden_size}, model.dtype());
    for (int64_t start = 0;; start += piece) {
      ForwardBatch batch;
      std::vector<int64_t> rows;
      for (size_t i = 0; i < sequences_.size(); ++i) {
        const auto length = static_cast<int64_t>(sequences_[i].size());
        const int64_t n = std::min(piece, length - start);
        if (n <= 0) continue;
        batch.segments.push_back({batch.num_tokens(), n, start, packed.block_tables[i]});
        for (int64_t p = start; p < start + n; ++p) {
          batch.token_ids.push_back(sequences_[i][static_cast<size_t>(p)]);
          batch.positions.push_back(static_cast<int32_t>(p));
          rows.push_back(packed.batch.segments[i].first_row + p);
        }
      }
      if (rows.empty()) return hidden;
      const Tensor out = model.forward(ctx, batch, cache);
      for (size_t r = 0; r < rows.size(); ++r) {
        const auto from = static_cast<int64_t>(r);
        hidden.rows(rows[r], rows[r] + 1).copy_from(out.rows(from, from + 1));
      }
    }
  }

  const std::vector<std::vector<int32_t>> sequences_ = random_sequences({34, 3}, config());
  ExecContext cpu_{2};
  std::optional<ExecContext> device_;
};
INSTANTIATE_TEST_SUITE_P(Models, ModelOnDeviceTest, ::testing::ValuesIn(models()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ModelOnDeviceTest, Fp32HasTheBitsOfTheCpuForthAndBack) {
  const auto on_cpu = make_model(cpu_, config(), DType::kF32);
  const auto on_device = make_model(*device_, config(), DType::kF32);
  const std::vector<Tensor> expected = forward(cpu_, *on_cpu), got = forward(*device_, *on_device);
  EXPECT_TRUE(same_bits(got[0], expected[0])) << "hidden states";
  EXPECT_TRUE(same_bits(got[1], expected[1])) << "logits";

  AdamW cpu_optimizer(on_cpu->parameters(), OptimConfig{.grad_clip = 0.1});
  AdamW device_optimizer(on_device->parameters(), OptimConfig{.grad_clip = 0.1});
  for (bool recompute : {false, true}) {
    const LossResult a = loss_and_gradients(cpu_, *on_cpu, sequences_, options(recompute));
    const LossResult b = loss_and_gradients(*device_, *on_device, sequences_, options(recompute));
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.routing.per_layer, b.routing.per_layer);
    const std::vector<Tensor> expected_grads = gradients(*on_cpu), grads = gradients(*on_device);
    for (size_t i = 0; i < grads.size(); ++i)
      EXPECT_TRUE(same_bits(grads[i], expected_grads[i])) << "gradient " << i;
    EXPECT_EQ(cpu_optimizer.step(cpu_, 0.01), device_optimizer.step(*device_, 0.01));
    on_cpu->update_router_bias(a.routing, 0.001);
    on_device->update_router_bias(b.routing, 0.001);
    on_cpu->pack(cpu_);
    on_device->pack(*device_);
  }
  for (size_t i = 0; i < on_cpu->parameters().size(); ++i)
    EXPECT_TRUE(same_bits(on_device->parameters()[i]->value.to(Device::kCpu),
                          on_cpu->parameters()[i]->value))
        << on_cpu->parameters()[i]->name;
}

TEST_P(ModelOnDeviceTest, TheLikeliestTokensAreThoseOfTheCpu) {
  const auto on_cpu = make_model(cpu_, config(), DType::kF32);
  const Tensor logits = forward(cpu_, *on_cpu)[1];
  EXPECT_TRUE(top_log_probs(*device_, logits.to(Device::kCuda), config().vocab_size, 0.9f, 5) ==
              top_log_probs(cpu_, logits, config().vocab_size, 0.9f, 5));
}

TEST_P(ModelOnDeviceTest, TheOptimizersStateIsWrittenAndReadBack) {
  const auto model = make_model(*device_, config(), DType::kF32);
  AdamW optimizer(model->parameters(), OptimConfig{});
  loss_and_gradients(*device_, *model, sequences_, options());
  optimizer.step(*device_, 0.01);
  const std::filesystem::path folder = ::testing::TempDir();
  const std::filesystem::path first = folder / concat("moerl_on_device_", ::getpid(), "_a"),
                              second = folder / concat("moerl_on_device_", ::getpid(), "_b");
  optimizer.save(first);
  AdamW other(model->parameters(), OptimConfig{});
  other.load(first);
  other.save(second);
  EXPECT_TRUE(read_file(first) == read_file(second));
  EXPECT_EQ(other.num_steps(), 1);
  std::filesystem::remove(first);
  std::filesystem::remove(second);
}

TEST_P(ModelOnDeviceTest, Bf16SamplesAsItTrains) {
  const auto model = make_model(*device_, config(), DType::kBF16);
  const std::vector<Tensor> whole = forward(*device_, *model);
  for (int64_t piece : {1, 32})
    EXPECT_TRUE(same_bits(forward_in_pieces(*device_, *model, piece), whole[0]))
        << "in pieces of " << piece;
}

TEST_P(ModelOnDeviceTest, AModelWithoutMastersHasTheSameBits) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const auto kept = make_model(*device_, config(), dtype);
    Transformer dropped(config(), dtype, Masters::kDropped, Device::kCuda);
    MastersOf source(*kept);
    dropped.load(*device_, source);
    const std::vector<Tensor> expected = forward(*device_, *kept);
    const std::vector<Tensor> got = forward(*device_, dropped);
    EXPECT_TRUE(same_bits(got[0], expected[0])) << "hidden states";
    EXPECT_TRUE(same_bits(got[1], expected[1])) << "logits";
  }
}

/// |a - b| / |b|, Frobenius.
double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = to_doubles(a), y = to_doubles(b);
  double difference = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    size += y[i] * y[i];
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

// The two backends round bf16 alike but sum in other orders: a value may land on the neighbouring
// bf16, 2^-8 away, in each of the three layers.
TEST_P(ModelOnDeviceTest, Bf16AgreesWithTheCpu) {
  const auto on_cpu = make_model(cpu_, config(), DType::kBF16);
  const auto on_device = make_model(*device_, config(), DType::kBF16);
  const std::vector<Tensor> expected = forward(cpu_, *on_cpu), got = forward(*device_, *on_device);
  EXPECT_LT(distance(got[1], expected[1]), 0.03) << "logits";
  const LossResult a = loss_and_gradients(cpu_, *on_cpu, sequences_, options());
  const LossResult b = loss_and_gradients(*device_, *on_device, sequences_, options());
  EXPECT_NEAR(b.loss, a.loss, 0.01 * a.loss);
  const std::vector<Tensor> expected_grads = gradients(*on_cpu), grads = gradients(*on_device);
  double difference = 0, size = 0;
  for (size_t i = 0; i < grads.size(); ++i) {
    const double d = distance(grads[i], expected_grads[i]);
    for (double x : to_doubles(expected_grads[i])) {
      size += x * x;
      difference += d * d * x * x;
    }
  }
  EXPECT_LT(std::sqrt(difference / size), 0.05) << "gradients";
}

/// Positions [begin, end) of a sequence whose earlier ones are in the cache.
Tensor forward_part(ExecContext& ctx, const Transformer& model, KvCache& cache,
                    const std::vector<int32_t>& tokens, const std::vector<int32_t>& table,
                    int64_t begin, int64_t end) {
  ForwardBatch batch;
  batch.segments.push_back({0, end - begin, begin, table});
  for (int64_t p = begin; p < end; ++p) {
    batch.token_ids.push_back(tokens[static_cast<size_t>(p)]);
    batch.positions.push_back(static_cast<int32_t>(p));
  }
  return model.forward(ctx, batch, cache).to(Device::kCpu);
}

// Decoding computes the splits of the keys side by side.
TEST(DeviceTest, DecodingBeyondASplitOfTheKeysHasTheBitsOfPrefill) {
  set_run_order(run_orders().back());
  ExecContext cpu(2), device(1, detect_isa(), Device::kCuda);
  const int64_t length = kernels::kKvSplit + 1;
  const std::pair<ModelConfig, DType> models[] = {{tiny_config(), DType::kF32},
                                                  {tensor_core_config(), DType::kBF16}};
  for (auto [config, dtype] : models) {
    config.num_hidden_layers = config.first_k_dense_replace = 1;
    config.num_nextn_predict_layers = 0;
    config.max_position_embeddings = 2 * kernels::kKvSplit;
    const std::vector<int32_t> tokens = random_sequences({length}, config)[0];
    std::vector<int32_t> table(static_cast<size_t>(length / kernels::kKvBlock) + 1);
    std::iota(table.rbegin(), table.rend(), 0);
    const auto model = make_model(device, config, dtype);
    KvCache cache(config, dtype, static_cast<int64_t>(table.size()), Device::kCuda);
    const Tensor whole = forward_part(device, *model, cache, tokens, table, 0, length);
    for (int64_t p = length - 2; p < length; ++p)
      EXPECT_TRUE(same_bits(forward_part(device, *model, cache, tokens, table, p, p + 1),
                            whole.rows(p, p + 1)))
          << dtype_name(dtype) << ", position " << p;
    if (dtype == DType::kBF16) continue;  // on tensor cores
    KvCache cpu_cache(config, dtype, static_cast<int64_t>(table.size()));
    EXPECT_TRUE(same_bits(
        forward_part(cpu, *make_model(cpu, config, dtype), cpu_cache, tokens, table, 0, length),
        whole));
  }
}

TEST(DeviceTest, AModelAndAContextOfTwoDevicesAreRefused) {
  ExecContext cpu(1);
  Transformer model(plain_config(), DType::kF32, Masters::kKept, Device::kCuda);
  EXPECT_THROW(model.pack(cpu), std::invalid_argument);
  EXPECT_THROW(model.parameters()[0]->value.data<float>(), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::testing
