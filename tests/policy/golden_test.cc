// Against Hugging Face transformers: weights, logits, loss and every gradient of a tiny model of
// each family, written by tests/golden/family_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "common/file.h"
#include "common/json.h"
#include "policy/safetensors.h"
#include "policy/weights_io.h"
#include "testing/paths.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kFamilies = fs::path(MOERL_SOURCE_DIR) / "tests" / "golden" / "families";

std::vector<double> read(const policy::SafetensorsFile& file, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(file.tensor(name).shape.numel()));
  policy::convert_to_f32(file.tensor(name), values.data());
  return {values.begin(), values.end()};
}

/// Largest difference, relative to the range of the expected values.
double range_error(const Tensor& got, const std::vector<double>& expected) {
  const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    worst = std::max(worst, std::abs(double{got.data<float>()[i]} - expected[i]));
  return worst / (*high - *low);
}

double norm(const std::vector<double>& x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}
/// |got - expected| / max(|expected|, floor), Frobenius.
double relative_error(const std::vector<double>& got, const std::vector<double>& expected,
                      double floor = 1e-30) {
  std::vector<double> difference;
  for (size_t i = 0; i < expected.size(); ++i) difference.push_back(got[i] - expected[i]);
  return norm(difference) / std::max(norm(expected), floor);
}

/// The median over rows of the relative error: a token whose experts rounding has flipped is far
/// off, the others tell the precision.
double median_row_error(const std::vector<double>& got, const std::vector<double>& expected,
                        int64_t width) {
  std::vector<double> errors;
  for (auto at = size_t{0}; at < expected.size(); at += static_cast<size_t>(width)) {
    const auto begin = static_cast<std::ptrdiff_t>(at), end = begin + width;
    errors.push_back(relative_error({got.begin() + begin, got.begin() + end},
                                    {expected.begin() + begin, expected.begin() + end}));
  }
  std::nth_element(errors.begin(), errors.begin() + static_cast<std::ptrdiff_t>(errors.size() / 2),
                   errors.end());
  return errors[errors.size() / 2];
}

/// How far the model is from transformers.
struct GoldenErrors {
  double logits = 0, mtp_logits = 0;  ///< range_error
  double loss = 0;                    ///< absolute
  /// The worst tensor's relative_error. Some gradients are zero but for rounding, such as that of a
  /// router whose one chosen score is normalised to one: below 1e-4 of the whole gradient's norm, a
  /// tensor is measured against that.
  double gradient = 0;
  std::string worst_gradient;
  double bf16 = 0, transformers_bf16 = 0;  ///< median_row_error, both from fp32 transformers
};

/// Cross-entropy of the token `distance` ahead, mean over the rows that have one; its gradients are
/// added, times weight.
double mean_cross_entropy(ExecContext& ctx, Transformer& model, const Tensor& hidden,
                          const std::vector<std::vector<int32_t>>& tokens, size_t distance,
                          double weight, Tensor& dhidden) {
  const std::vector<int32_t> targets = next_tokens(tokens, distance);
  const size_t n = targets.size(), length = tokens[0].size();
  const double share = 1 / static_cast<double>(n - distance * tokens.size());
  std::vector<float> log_probs(n), entropy(n), lse(n),
      dlog_probs(n, static_cast<float>(-weight * share));
  for (size_t i = 0; i < n; ++i)
    if (i % length + distance >= length) dlog_probs[i] = 0;
  const int64_t vocab = model.config().vocab_size;
  kernels::token_log_prob_forward(ctx, hidden, model.head(), vocab, 1, targets, log_probs, entropy,
                                  lse);
  dhidden = ctx.empty(hidden.shape(), hidden.dtype());
  kernels::token_log_prob_backward(ctx, hidden, model.head(), vocab, 1, targets, lse, entropy,
                                   dlog_probs, {}, dhidden, model.head_grad());
  double loss = 0;
  for (size_t i = 0; i < n; ++i)
    if (dlog_probs[i] != 0) loss -= share * double{log_probs[i]};
  return loss;
}

std::vector<int32_t> every_row(const Tensor& hidden) {
  std::vector<int32_t> rows(static_cast<size_t>(hidden.dim(0)));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

class GoldenCase {
 public:
  GoldenCase(fs::path directory, const std::string& mla_form)
      : directory_(std::move(directory)),
        config_(read_model_config(directory_)),
        expected_(parse_json(read_file(directory_ / "expected.json"))),
        tokens_(expected_.at("tokens").get<std::vector<std::vector<int32_t>>>()) {
    config_.mla_form = mla_form;
  }
  const ModelConfig& config() const { return config_; }

  GoldenErrors compare() {
    GoldenErrors errors;
    compare_f32(errors);
    compare_bf16(errors);
    return errors;
  }

 private:
  std::unique_ptr<Transformer> load(DType dtype) {
    auto model = std::make_unique<Transformer>(config_, dtype);
    load_weights(ctx_, *model, directory_);
    model->pack(ctx_);
    return model;
  }

  void compare_f32(GoldenErrors& errors) {
    const auto model = load(DType::kF32);
    model->enable_gradients();
    const SequenceBatch packed = pack_sequences(tokens_);
    KvCache cache(config_, DType::kF32, packed.num_blocks);
    TrainingPass pass;
    const Tensor hidden = model->forward(ctx_, packed.batch, cache, &pass);
    errors.logits =
        range_error(model->logits(ctx_, hidden, every_row(hidden)), read(logits_, "logits"));
    Tensor dhidden;
    const double loss = mean_cross_entropy(ctx_, *model, hidden, tokens_, 1, 1, dhidden);
    errors.loss = std::abs(loss - expected_.at("loss").get<double>());
    if (config_.num_nextn_predict_layers > 0) {
      const std::vector<int32_t> next = next_tokens(tokens_);
      const Tensor mtp = model->mtp_forward(ctx_, hidden, next, packed.batch, cache, &pass);
      errors.mtp_logits =
          range_error(model->logits(ctx_, mtp, every_row(mtp)), read(logits_, "mtp_logits"));
      Tensor dmtp;
      const double mtp_loss = mean_cross_entropy(
          ctx_, *model, mtp, tokens_, 2, expected_.at("mtp_loss_weight").get<double>(), dmtp);
      errors.loss =
          std::max(errors.loss, std::abs(mtp_loss - expected_.at("mtp_loss").get<double>()));
      model->mtp_backward(ctx_, dmtp, next, packed.batch, pass, dhidden);
    }
    model->backward(ctx_, dhidden, packed.batch, pass);
    const policy::SafetensorsFile gradients(directory_ / "gradients.safetensors");
    double whole = 0;
    for (const Parameter* p : std::as_const(*model).parameters())
      if (!p->is_buffer) whole = std::hypot(whole, norm(read(gradients, p->name)));
    for (const Parameter* p : std::as_const(*model).parameters()) {
      if (p->is_buffer) continue;
      const double error =
          relative_error(to_doubles(p->grad), read(gradients, p->name), 1e-4 * whole);
      if (error <= errors.gradient) continue;
      errors.gradient = error;
      errors.worst_gradient = p->name;
    }
  }

  void compare_bf16(GoldenErrors& errors) {
    const auto model = load(DType::kBF16);
    const SequenceBatch packed = pack_sequences(tokens_);
    KvCache cache(config_, DType::kBF16, packed.num_blocks);
    const Tensor hidden = model->forward(ctx_, packed.batch, cache);
    const std::vector<double> expected = read(logits_, "logits");
    const int64_t width = config_.vocab_size;
    errors.bf16 = median_row_error(to_doubles(model->logits(ctx_, hidden, every_row(hidden))),
                                   expected, width);
    errors.transformers_bf16 = median_row_error(read(logits_, "logits_bf16"), expected, width);
  }

  fs::path directory_;
  ModelConfig config_;
  nlohmann::json expected_;
  std::vector<std::vector<int32_t>> tokens_;
  policy::SafetensorsFile logits_{directory_ / "logits.safetensors"};
  ExecContext ctx_{2};
};

/// The bounds of a case. bf16 rounds weights and activations to 8 bits, an error of transformers'
/// own bf16 pass against its fp32 pass; ours, which rounds less often, may be a quarter larger by
/// chance.
void expect_agreement(const GoldenErrors& errors) {
  EXPECT_LE(errors.logits, 2e-5);
  EXPECT_LE(errors.mtp_logits, 2e-5);
  EXPECT_LE(errors.loss, 1e-5);
  EXPECT_LE(errors.gradient, 1e-4) << errors.worst_gradient;
  EXPECT_LE(errors.bf16, 1.25 * errors.transformers_bf16);
  EXPECT_GT(errors.bf16, 1e-5) << "bf16 rounds";
}

std::vector<std::string> forms_of(const fs::path& directory) {
  if (read_model_config(directory).attention == AttentionKind::kGrouped) return {"expanded"};
  return {"expanded", "absorbed"};
}

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsLossAndGradientsMatchTransformers) {
  for (const std::string& form : forms_of(kFamilies / GetParam())) {
    SCOPED_TRACE(form);
    expect_agreement(GoldenCase(kFamilies / GetParam(), form).compare());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         ::testing::Values("deepseek_v3", "deepseek_v3_mtp", "deepseek_v2",
                                           "deepseek_v2_lite", "llama", "qwen2", "qwen3",
                                           "qwen3_moe"),
                         [](const auto& info) { return info.param; });

/// Cases that family_golden.py --random has written; prints how far each is.
TEST(GoldenCasesTest, DirectoryOfCases) {
  const char* root = std::getenv("MOERL_GOLDEN_CASES");
  if (root == nullptr) GTEST_SKIP() << "MOERL_GOLDEN_CASES names no directory of cases";
  std::vector<fs::path> cases;
  for (const auto& entry : fs::directory_iterator(root)) cases.push_back(entry.path());
  std::sort(cases.begin(), cases.end());
  ASSERT_FALSE(cases.empty()) << root;
  for (const fs::path& directory : cases)
    for (const std::string& form : forms_of(directory)) {
      SCOPED_TRACE(directory.filename().string() + " " + form);
      const GoldenErrors e = GoldenCase(directory, form).compare();
      std::printf("%-16s %-8s logits %.1e loss %.1e gradient %.1e (%s) bf16 %.4f of %.4f\n",
                  directory.filename().c_str(), form.c_str(), e.logits, e.loss, e.gradient,
                  e.worst_gradient.c_str(), e.bf16, e.transformers_bf16);
      expect_agreement(e);
    }
}

}  // namespace
}  // namespace moerl::testing
