#include "policy/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "policy/checkpoint_export.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::testing {
namespace {

const Parameter& parameter(const Transformer& model, const std::string& name) {
  for (const Parameter* p : model.parameters())
    if (p->name == name) return *p;
  throw std::out_of_range(name);
}

TEST(TransformerTest, ParametersHaveTheNamesAndShapesOfTheCheckpoint) {
  const Transformer model(tiny_config(), DType::kF32);
  std::set<std::string> names;
  int64_t total = 0;
  for (const Parameter* p : model.parameters()) {
    EXPECT_TRUE(names.insert(p->name).second) << p->name;
    total += p->value.numel();
  }
  EXPECT_EQ(total, tiny_config().num_parameters());
  const std::pair<const char*, Shape> some[] = {
      {"model.embed_tokens.weight", {61, 40}},
      {"model.layers.0.mlp.up_proj.weight", {28, 40}},
      {"model.layers.1.self_attn.q_a_proj.weight", {24, 40}},
      {"model.layers.1.self_attn.q_a_layernorm.weight", {24}},
      {"model.layers.1.self_attn.q_b_proj.weight", {36, 24}},
      {"model.layers.1.self_attn.kv_a_proj_with_mqa.weight", {24, 40}},
      {"model.layers.1.self_attn.kv_a_layernorm.weight", {20}},
      {"model.layers.1.self_attn.kv_b_proj.weight", {60, 20}},
      {"model.layers.1.self_attn.o_proj.weight", {40, 36}},
      {"model.layers.1.input_layernorm.weight", {40}},
      {"model.layers.1.post_attention_layernorm.weight", {40}},
      {"model.layers.2.mlp.gate.weight", {8, 40}},
      {"model.layers.2.mlp.gate.e_score_correction_bias", {8}},
      {"model.layers.2.mlp.experts.7.gate_proj.weight", {12, 40}},
      {"model.layers.2.mlp.experts.7.down_proj.weight", {40, 12}},
      {"model.layers.2.mlp.shared_experts.up_proj.weight", {24, 40}},
      {"model.layers.3.enorm.weight", {40}},
      {"model.layers.3.hnorm.weight", {40}},
      {"model.layers.3.eh_proj.weight", {40, 80}},
      {"model.layers.3.shared_head.norm.weight", {40}},
      {"model.layers.3.mlp.experts.0.up_proj.weight", {12, 40}},
      {"model.norm.weight", {40}},
      {"lm_head.weight", {61, 40}}};
  for (const auto& [name, shape] : some) EXPECT_EQ(parameter(model, name).value.shape(), shape);

  const Transformer plain(plain_config(), DType::kF32);
  EXPECT_EQ(parameter(plain, "model.layers.0.self_attn.q_proj.weight").value.shape(),
            (Shape{36, 40}));
  EXPECT_THROW(parameter(plain, "lm_head.weight"), std::out_of_range);
}

TEST(TransformerTest, InitWeightsDependsOnSeedAndNameAlone) {
  Transformer a(tiny_config(), DType::kF32), b(tiny_config(), DType::kBF16),
      c(tiny_config(), DType::kF32);
  a.init_weights(1);
  b.init_weights(1);
  c.init_weights(2);
  double squares = 0;
  int64_t n = 0;
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    const Parameter& p = *a.parameters()[i];
    EXPECT_TRUE(same_bits(p.value, b.parameters()[i]->value));
    if (p.is_buffer || !p.decays()) {
      EXPECT_EQ(to_floats(p.value), std::vector<float>(static_cast<size_t>(p.value.numel()),
                                                       p.is_buffer ? 0.0f : 1.0f));
      continue;
    }
    EXPECT_FALSE(same_bits(p.value, c.parameters()[i]->value)) << p.name;
    for (float v : to_floats(p.value)) squares += double{v} * v;
    n += p.value.numel();
  }
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(n)), 0.2, 0.004);
  EXPECT_FALSE(same_bits(parameter(a, "model.layers.1.mlp.experts.0.up_proj.weight").value,
                         parameter(a, "model.layers.1.mlp.experts.1.up_proj.weight").value));
}

TEST(TransformerTest, Fp8CountsTheMatricesThatAnFp8CheckpointHasWithoutTheLatentsExpansion) {
  for (const ModelConfig& config : {tiny_config(), plain_config(), tiny_deepseek_v2(), tiny_llama(),
                                    tiny_qwen2(), tiny_qwen3(), tiny_qwen3_moe()}) {
    Transformer model(config, Precision::fp8());
    int64_t expected = 0;
    for (const Parameter* p : model.parameters())
      if (is_fp8_weight(p->name, p->value.shape().rank()) && !p->name.ends_with("kv_b_proj.weight"))
        expected += p->value.numel();
    EXPECT_EQ(config.num_fp8_parameters(), expected) << config.model_type;
  }
}

TEST(TransformerTest, Fp8LeavesHeadAndRouterAsTheyAre) {
  ExecContext ctx(2);
  for (const ModelConfig& config : {tiny_config(), tiny_qwen3_moe()}) {
    const auto fp8 = make_model(ctx, config, Precision::fp8());
    EXPECT_FALSE(fp8->head().is_fp8);
    EXPECT_EQ(fp8->numeric_family(), "cpu-fp8");
    EXPECT_EQ(fp8->dtype(), DType::kBF16);
  }
  EXPECT_INVALID_ARGUMENT(Transformer(tiny_config(), Precision(DType::kF32, true)),
                          "fp8 needs bf16 activations");
}

// Dense, so that rounding sends no token to another expert.
TEST(TransformerTest, GradientsInFp8PointWhereThoseOfFp32Do) {
  ExecContext ctx(2);
  const ModelConfig config = tiny_llama();
  const auto exact = make_model(ctx, config, DType::kF32);
  const auto fp8 = make_model(ctx, config, Precision::fp8());
  const auto sequences = random_sequences({30, 11}, config);
  const double loss = loss_and_gradients(ctx, *exact, sequences).loss;
  EXPECT_NEAR(loss_and_gradients(ctx, *fp8, sequences).loss, loss, 0.02 * loss);
  // Of the queries and keys they are differences of like numbers, which show rounding most.
  const auto cosine = [](const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0) /
           std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0) *
                     std::inner_product(b.begin(), b.end(), b.begin(), 0.0));
  };
  const std::vector<Tensor> want = gradients(*exact), got = gradients(*fp8);
  std::vector<double> all_want, all_got;
  for (size_t i = 0; i < want.size(); ++i) {
    const std::vector<double> a = to_doubles(got[i]), b = to_doubles(want[i]);
    EXPECT_GT(cosine(a, b), 0.9) << exact->parameters()[i]->name;
    all_got.insert(all_got.end(), a.begin(), a.end());
    all_want.insert(all_want.end(), b.begin(), b.end());
  }
  EXPECT_GT(cosine(all_got, all_want), 0.95);
}

TEST(TransformerTest, TwoMicroBatchesAddUpToOne) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const auto all = random_sequences({12, 30, 7, 9}, tiny_config());
  const LossOptions options{.balance_alpha = 0.1, .mtp_weight = 0.3};
  const LossResult whole = loss_and_gradients(ctx, *model, all, options);
  const std::vector<Tensor> expected = gradients(*model);
  model->zero_gradients();
  LossResult first = loss_and_gradients(ctx, *model, {all[0], all[1]}, options);
  const LossResult second = loss_and_gradients(ctx, *model, {all[2], all[3]}, options);
  EXPECT_NEAR(first.loss + second.loss, whole.loss, 1e-4);
  first.routing.add(second.routing);
  EXPECT_EQ(first.routing.per_layer, whole.routing.per_layer);
  const std::vector<Tensor> got = gradients(*model);
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_TRUE(all_near(got[i], to_doubles(expected[i]), {1e-4, 1e-5})) << i;
}

TEST(TransformerTest, RoutingCountsEveryChoiceOnce) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const auto sequences = random_sequences({12, 30}, tiny_config());
  for (bool recompute : {false, true}) {
    const LossResult result =
        loss_and_gradients(ctx, *model, sequences, {.recompute = recompute, .mtp_weight = 0.1});
    ASSERT_EQ(result.routing.per_layer.size(), 3u);  // two hidden layers and the MTP module
    for (const std::vector<int64_t>& counts : result.routing.per_layer) {
      ASSERT_EQ(counts.size(), 8u);
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 42 * 3);
    }
  }
}

TEST(TransformerTest, RouterBiasFallsForCrowdedExpertsAndRisesForIdleOnes) {
  Transformer model(tiny_config(), DType::kF32);
  RoutingCounts counts;
  counts.per_layer = {{10, 0, 3, 3, 3, 3, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1}};
  model.update_router_bias(counts, 0.001);
  const float up = 0.001f;
  EXPECT_EQ(to_floats(parameter(model, "model.layers.1.mlp.gate.e_score_correction_bias").value),
            (std::vector<float>{-up, up, 0, 0, 0, 0, up, up}));
  EXPECT_EQ(to_floats(parameter(model, "model.layers.2.mlp.gate.e_score_correction_bias").value),
            std::vector<float>(8, 0.0f));
  counts.per_layer.push_back({0, 8, 0, 0, 0, 0, 0, 0});
  model.update_router_bias(counts, 0.5);
  EXPECT_EQ(to_floats(parameter(model, "model.layers.3.mlp.gate.e_score_correction_bias").value),
            (std::vector<float>{0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}));
  counts.per_layer.resize(1);
  EXPECT_INVALID_ARGUMENT(model.update_router_bias(counts, 0.5), "counts of 1 layers");
}

TEST(TransformerTest, PackWithoutDgradSamplesButDoesNotTrain) {
  ExecContext ctx(1);
  for (const char* form : {"expanded", "absorbed"}) {
    const ModelConfig config = with_form(tiny_config(), form);
    const auto model = make_model(ctx, config, DType::kBF16);
    const auto sequences = random_sequences({8}, config);
    const SequenceBatch packed = pack_sequences(sequences);
    KvCache cache(config, DType::kBF16, packed.num_blocks);
    const Tensor expected = model->forward(ctx, packed.batch, cache);
    Transformer sampler(config, DType::kBF16);
    for (size_t i = 0; i < sampler.parameters().size(); ++i)
      std::memcpy(sampler.parameters()[i]->value.raw(), model->parameters()[i]->value.raw(),
                  static_cast<size_t>(model->parameters()[i]->value.bytes()));
    sampler.pack(ctx, false);
    EXPECT_TRUE(same_bits(sampler.forward(ctx, packed.batch, cache), expected));
    sampler.enable_gradients();
    EXPECT_INVALID_ARGUMENT(loss_and_gradients(ctx, sampler, sequences), "dgrad");
  }
}

TEST(TransformerTest, RefusesBatchesThatDoNotFit) {
  ExecContext ctx(1);
  const ModelConfig config = tiny_config();
  const auto model = make_model(ctx, config, DType::kF32);
  KvCache cache(config, DType::kF32, 16);
  const auto sequences = random_sequences({8, 5}, config);
  SequenceBatch packed = pack_sequences(sequences);
  ForwardBatch bad = packed.batch;
  bad.positions.pop_back();
  EXPECT_INVALID_ARGUMENT(model->forward(ctx, bad, cache), "12 positions for 13 tokens");
  bad = packed.batch;
  bad.segments.pop_back();
  EXPECT_INVALID_ARGUMENT(model->forward(ctx, bad, cache), "cover 8 of 13");
  bad = packed.batch;
  bad.positions[9] = 7;
  EXPECT_INVALID_ARGUMENT(model->forward(ctx, bad, cache), "row 9 is at position 7, expected 1");
  bad = packed.batch;
  bad.token_ids[3] = 61;
  EXPECT_THROW(model->forward(ctx, bad, cache), std::invalid_argument);
  const auto long_one = random_sequences({257}, config);
  const SequenceBatch too_long = pack_sequences(long_one);
  EXPECT_INVALID_ARGUMENT(model->forward(ctx, too_long.batch, cache), "max_position_embeddings");
  TrainingPass pass;
  bad = packed.batch;
  for (int32_t& p : bad.positions) p += 2;
  for (kernels::AttentionSegment& s : bad.segments) s.start += 2;
  EXPECT_INVALID_ARGUMENT(model->forward(ctx, bad, cache, &pass), "whole sequences");
  const Tensor dhidden = Tensor::zeros({13, 40}, DType::kF32);
  EXPECT_INVALID_ARGUMENT(model->backward(ctx, dhidden, packed.batch, pass), "without a forward");
  const Transformer unpacked(config, DType::kF32);
  EXPECT_INVALID_ARGUMENT(unpacked.forward(ctx, packed.batch, cache), "pack()");
  EXPECT_INVALID_ARGUMENT(pack_sequences(std::vector<std::vector<int32_t>>{{1}, {}}),
                          "sequence 1 is empty");
}

TEST(TransformerTest, BackwardTwiceDoublesTheGradients) {
  ExecContext ctx(1);
  const auto model = make_model(ctx, tiny_config(), DType::kF32);
  const auto sequences = random_sequences({11, 4}, tiny_config());
  loss_and_gradients(ctx, *model, sequences, {.mtp_weight = 0.3});
  const std::vector<Tensor> once = gradients(*model);
  loss_and_gradients(ctx, *model, sequences, {.mtp_weight = 0.3});
  const std::vector<Tensor> twice = gradients(*model);
  for (size_t i = 0; i < once.size(); ++i) {
    std::vector<double> doubled = to_doubles(once[i]);
    for (double& v : doubled) v *= 2;
    EXPECT_TRUE(all_near(twice[i], doubled, {1e-4, 1e-5})) << i;
  }
}

TEST(TransformerTest, LogitsOfScatteredRowsEqualThoseOfAllRows) {
  ExecContext ctx(2);
  const auto model = make_model(ctx, tiny_config(), DType::kBF16);
  const auto sequences = random_sequences({20}, tiny_config());
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(tiny_config(), DType::kBF16, packed.num_blocks);
  const Tensor hidden = model->forward(ctx, packed.batch, cache);
  std::vector<int32_t> every(20);
  std::iota(every.begin(), every.end(), 0);
  const std::vector<int32_t> some = {19, 2, 2, 7};
  const Tensor all = model->logits(ctx, hidden, every), few = model->logits(ctx, hidden, some);
  EXPECT_EQ(all.dtype(), DType::kF32);
  for (size_t i = 0; i < some.size(); ++i)
    EXPECT_TRUE(same_bits(few.rows(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1),
                          all.rows(some[i], some[i] + 1)));
  EXPECT_EQ(model->logits(ctx, hidden, {}).shape(), (Shape{0, 61}));
}

TEST(KvCacheTest, BlockBytesOfTheSmallFormAreSmall) {
  ModelConfig config = tiny_config();
  EXPECT_EQ(KvCache::block_bytes(config, DType::kF32), 3 * 32 * 3 * (12 + 12) * 4);
  config.mla_form = "absorbed";
  EXPECT_EQ(KvCache::block_bytes(config, DType::kBF16), 3 * 32 * (20 + 4) * 2);
  EXPECT_INVALID_ARGUMENT(KvCache(config, DType::kF32, 0), "num_blocks is 0");
}

}  // namespace
}  // namespace moerl::testing
