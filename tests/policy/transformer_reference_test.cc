// The model against its double-precision twin: logits, loss and the gradient of every tensor.
#include <gtest/gtest.h>

#include "policy/transformer.h"
#include "tests/policy/reference_model.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::testing {
namespace {

struct Variant {
  std::string name;
  ModelConfig config;
  friend std::ostream& operator<<(std::ostream& out, const Variant& v) { return out << v.name; }
};

std::vector<Variant> variants() {
  ModelConfig unshared = tiny_config();
  unshared.n_shared_experts = 0;
  unshared.first_k_dense_replace = 0;
  return {{"Expanded", with_form(tiny_config(), "expanded")},
          {"Absorbed", with_form(tiny_config(), "absorbed")},
          {"PlainExpanded", with_form(plain_config(), "expanded")},
          {"PlainAbsorbed", with_form(plain_config(), "absorbed")},
          {"NoSharedExpert", unshared},
          {"DeepSeekV2", tiny_deepseek_v2()},
          {"Llama", tiny_llama()},
          {"Qwen2", tiny_qwen2()},
          {"Qwen3", tiny_qwen3()},
          {"Qwen3Moe", tiny_qwen3_moe()}};
}

class TransformerReferenceTest : public ::testing::TestWithParam<Variant> {
 protected:
  ExecContext ctx{2};
};

Rows reference_logits(ReferenceModel& reference,
                      const std::vector<std::vector<int32_t>>& sequences) {
  Rows all;
  for (const auto& sequence : sequences)
    for (const Row& row : reference.logits(reference.hidden(sequence))) all.push_back(row);
  return all;
}

Row flat(const Rows& rows) {
  Row out;
  for (const Row& row : rows) out.insert(out.end(), row.begin(), row.end());
  return out;
}

Tensor model_logits(ExecContext& ctx, const Transformer& model,
                    const std::vector<std::vector<int32_t>>& sequences) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(model.config(), model.dtype(), packed.num_blocks);
  const Tensor hidden = model.forward(ctx, packed.batch, cache);
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < hidden.dim(0); ++i) rows.push_back(static_cast<int32_t>(i));
  return model.logits(ctx, hidden, rows);
}

TEST_P(TransformerReferenceTest, LogitsMatch) {
  const auto model = make_model(ctx, GetParam().config, DType::kF32);
  const auto sequences = random_sequences({37, 5, 1, 33}, GetParam().config);
  ReferenceModel reference(*model);
  EXPECT_TRUE(all_near(model_logits(ctx, *model, sequences),
                       flat(reference_logits(reference, sequences)), {1e-5, 2e-5}));
}

/// How far each row's logits are from the reference, relative to their size; ascending.
std::vector<double> logit_errors(ExecContext& ctx, const ModelConfig& config, Precision precision) {
  const auto model = make_model(ctx, config, precision);
  const auto sequences = random_sequences({19, 8}, config);
  ReferenceModel reference(*model);
  const Rows expected = reference_logits(reference, sequences);
  const Tensor logits = model_logits(ctx, *model, sequences);
  std::vector<double> errors;
  for (size_t t = 0; t < expected.size(); ++t) {
    double error = 0, size = 0;
    for (size_t v = 0; v < expected[t].size(); ++v) {
      const double got = logits.data<float>()[t * expected[t].size() + v];
      error += std::pow(got - expected[t][v], 2);
      size += std::pow(expected[t][v], 2);
    }
    errors.push_back(std::sqrt(error / size));
  }
  std::sort(errors.begin(), errors.end());
  return errors;
}

// Rounding may flip an expert of a token, which then is far off: the median tells.
TEST_P(TransformerReferenceTest, RoundedLogitsAreNearInMostRows) {
  const std::vector<double> bf16 = logit_errors(ctx, GetParam().config, DType::kBF16),
                            fp8 = logit_errors(ctx, GetParam().config, Precision::fp8());
  const size_t median = bf16.size() / 2;
  EXPECT_LT(bf16[median], 0.04);
  EXPECT_GT(bf16[0], 1e-5) << "bf16 rounds";
  EXPECT_LT(fp8[median], 0.4);
  EXPECT_GT(fp8[median], 2 * bf16[median]) << "three bits of mantissa against seven";
}

/// Loss of loss_and_gradients, by the reference.
double reference_loss(ReferenceModel& reference, const std::vector<std::vector<int32_t>>& sequences,
                      const LossOptions& options) {
  double loss = 0;
  reference.balance_loss = 0;
  for (const auto& sequence : sequences) {
    const Rows hidden = reference.hidden(sequence);
    const Rows logits = reference.logits(hidden);
    const std::vector<int32_t> next = next_tokens({sequence});
    const std::vector<int32_t> after = next_tokens({sequence}, 2);
    Rows mtp_logits;
    if (options.mtp_weight > 0) mtp_logits = reference.logits(reference.mtp_hidden(hidden, next));
    for (size_t t = 0; t < sequence.size(); ++t) {
      loss -= options.token_weight * ReferenceModel::log_prob(logits[t], next[t]);
      if (options.mtp_weight > 0)
        loss -= options.mtp_weight * ReferenceModel::log_prob(mtp_logits[t], after[t]);
    }
  }
  return loss + options.balance_alpha * reference.balance_loss;
}

/// Compares some entries of every gradient with finite differences of the reference: the largest
/// one, where an error shows best, and two at random.
void expect_gradients_match(const Transformer& model,
                            const std::vector<std::vector<int32_t>>& sequences,
                            const LossOptions& options) {
  ReferenceModel reference(model);
  double largest = 0;
  for (const Parameter* p : model.parameters())
    for (float g : p->is_buffer ? std::vector<float>() : to_floats(p->grad))
      largest = std::max<double>(largest, std::abs(g));
  for (const Parameter* p : model.parameters()) {
    if (p->is_buffer) continue;
    const std::vector<float> grad = to_floats(p->grad);
    Rng rng(hash64(p->name));
    const auto top = std::max_element(grad.begin(), grad.end(),
                                      [](float a, float b) { return std::abs(a) < std::abs(b); });
    const auto size = static_cast<uint32_t>(grad.size());
    for (size_t i : {static_cast<size_t>(top - grad.begin()), static_cast<size_t>(rng.below(size)),
                     static_cast<size_t>(rng.below(size))}) {
      const double expected =
          central_difference([&] { return reference_loss(reference, sequences, options); },
                             reference.weights[p->name][i]);
      EXPECT_NEAR(grad[i], expected, 2e-5 * largest + 2e-3 * std::abs(expected))
          << p->name << " element " << i;
    }
  }
}

TEST_P(TransformerReferenceTest, GradientsOfCrossEntropyMatchFiniteDifferences) {
  const auto model = make_model(ctx, GetParam().config, DType::kF32);
  const auto sequences = random_sequences({7, 1, 4}, GetParam().config);
  const LossResult result = loss_and_gradients(ctx, *model, sequences);
  ReferenceModel reference(*model);
  EXPECT_NEAR(result.loss, reference_loss(reference, sequences, {}), 1e-4);
  expect_gradients_match(*model, sequences, {});
}

TEST_P(TransformerReferenceTest, GradientsOfBalanceAndMtpLossMatchFiniteDifferences) {
  const auto model = make_model(ctx, GetParam().config, DType::kF32);
  const auto sequences = random_sequences({6, 3}, GetParam().config);
  const LossOptions options{.balance_alpha = 0.5,
                            .mtp_weight = GetParam().config.num_nextn_predict_layers > 0 ? 0.3 : 0,
                            .token_weight = 0.01f};
  const LossResult result = loss_and_gradients(ctx, *model, sequences, options);
  ReferenceModel reference(*model);
  EXPECT_NEAR(result.loss, reference_loss(reference, sequences, options), 1e-4);
  expect_gradients_match(*model, sequences, options);
}

INSTANTIATE_TEST_SUITE_P(Variants, TransformerReferenceTest, ::testing::ValuesIn(variants()),
                         [](const auto& info) { return info.param.name; });

TEST(TransformerFormsTest, AbsorbedEqualsExpanded) {
  ExecContext ctx(1);
  const auto expanded = make_model(ctx, with_form(tiny_config(), "expanded"), DType::kF32);
  const auto absorbed = make_model(ctx, with_form(tiny_config(), "absorbed"), DType::kF32);
  const auto sequences = random_sequences({40, 12}, tiny_config());
  EXPECT_TRUE(all_near(model_logits(ctx, *absorbed, sequences),
                       to_doubles(model_logits(ctx, *expanded, sequences)), {1e-5, 2e-5}));
  loss_and_gradients(ctx, *expanded, sequences);
  loss_and_gradients(ctx, *absorbed, sequences);
  const std::vector<Tensor> a = gradients(*absorbed), e = gradients(*expanded);
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(all_near(a[i], to_doubles(e[i]), {1e-3, 1e-4})) << "gradient " << i;
}

}  // namespace
}  // namespace moerl::testing
