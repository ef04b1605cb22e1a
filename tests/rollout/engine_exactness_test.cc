#include <gtest/gtest.h>

#include "kernels/loss/token_log_prob.h"
#include "tests/rollout/tiny_model.h"

namespace moerl {
namespace {

using testing::CompletionMap;
using testing::expect_empty;
using testing::expect_same_bits;
using testing::generate;
using testing::tiny_engine_config;
using testing::tiny_request;
using testing::TinyModel;

using Variant = std::tuple<DType, std::string>;

/// What must not depend on anything but weights, prompt and seed.
class EngineExactnessTest : public ::testing::TestWithParam<Variant> {
 protected:
  EngineExactnessTest() : tiny_(std::get<0>(GetParam()), std::get<1>(GetParam())) {}

  CompletionMap run(const EngineConfig& config, const GenerateRequest& request) {
    Engine engine(tiny_.model, config, tiny_.ctx);
    CompletionMap completions = generate(engine, request);
    expect_empty(engine);
    preemptions_ = engine.status().num_preemptions;
    return completions;
  }

  TinyModel tiny_;
  int64_t preemptions_ = 0;
};

TEST_P(EngineExactnessTest, ASequenceAloneEqualsTheSameOneInABatch) {
  const GenerateRequest request = tiny_request(4, 3, 40);
  const CompletionMap batch = run(tiny_engine_config(), request);
  for (const TokenizedPrompt& prompt : request.prompts) {
    for (int64_t s = 0; s < request.group_size; ++s) {
      GenerateRequest alone = request;
      alone.prompts = {prompt};
      alone.group_size = 1;
      alone.first_sample_index = s;
      const CompletionMap single = run(tiny_engine_config(), alone);
      ASSERT_EQ(single.size(), 1u);
      expect_same_bits(single.begin()->second, batch.at({prompt.prompt_id, s}));
    }
  }
}

TEST_P(EngineExactnessTest, BatchLimitsChangeNothing) {
  const GenerateRequest request = tiny_request(5, 4, 30);
  const CompletionMap reference = run(tiny_engine_config(), request);
  for (const auto& [max_num_seqs, max_batched_tokens] :
       {std::pair{1, 1}, {1, 128}, {3, 3}, {3, 17}, {7, 64}, {20, 1024}}) {
    EngineConfig config = tiny_engine_config();
    config.max_num_seqs = max_num_seqs;
    config.max_batched_tokens = max_batched_tokens;
    expect_same_bits(run(config, request), reference);
  }
}

TEST_P(EngineExactnessTest, PreemptionChangesNothing) {
  const GenerateRequest request = tiny_request(6, 4, 60);
  const CompletionMap reference = run(tiny_engine_config(), request);
  for (int64_t num_kv_blocks : {5, 7, 12, 20}) {
    EngineConfig config = tiny_engine_config();
    config.num_kv_blocks = num_kv_blocks;
    config.max_batched_tokens = 48;
    expect_same_bits(run(config, request), reference);
    EXPECT_GT(preemptions_, 0) << num_kv_blocks;
  }
}

TEST_P(EngineExactnessTest, ThreadsChangeNothing) {
  const GenerateRequest request = tiny_request(4, 4, 30);
  const CompletionMap reference = run(tiny_engine_config(), request);
  for (int num_threads : {2, 3}) {
    TinyModel other(std::get<0>(GetParam()), std::get<1>(GetParam()), num_threads);
    Engine engine(other.model, tiny_engine_config(), other.ctx);
    expect_same_bits(generate(engine, request), reference);
  }
}

TEST_P(EngineExactnessTest, LogProbsEqualTheTrainingForwardBitForBit) {
  GenerateRequest request = tiny_request(5, 3, 50);
  request.sampling.temperature = 0.8;
  request.sampling.top_p = 0.95;
  EngineConfig config = tiny_engine_config();
  config.num_kv_blocks = 16;  // preempted ones included
  const CompletionMap completions = run(config, request);

  const auto [sequences, rows, targets, sampled] = testing::drawn_rows(request, completions);
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(tiny_.model.config(), tiny_.model.dtype(), packed.num_blocks);
  TrainingPass pass;
  const Tensor hidden = tiny_.model.forward(tiny_.ctx, packed.batch, cache, &pass);
  const auto n = static_cast<int64_t>(rows.size());
  Tensor chosen = Tensor::empty({n, hidden.dim(1)}, hidden.dtype());
  const auto row_bytes = static_cast<size_t>(chosen.bytes() / n);
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(static_cast<char*>(chosen.raw()) + i * row_bytes,
                static_cast<const char*>(hidden.raw()) + static_cast<size_t>(rows[i]) * row_bytes,
                row_bytes);
  std::vector<float> trained(rows.size());
  kernels::token_log_prob_forward(tiny_.ctx, chosen, tiny_.model.head(), testing::kTinyVocab, 0.8f,
                                  targets, trained, {}, {});
  ASSERT_GT(trained.size(), 100u);
  for (size_t i = 0; i < trained.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(trained[i]), std::bit_cast<uint32_t>(sampled[i]))
        << "token " << i << ": " << trained[i] << " against " << sampled[i];
}

INSTANTIATE_TEST_SUITE_P(All, EngineExactnessTest,
                         ::testing::Combine(::testing::Values(DType::kBF16, DType::kF32),
                                            ::testing::Values("expanded", "absorbed")),
                         [](const ::testing::TestParamInfo<Variant>& p) {
                           return std::string(dtype_name(std::get<0>(p.param))) + "_" +
                                  std::get<1>(p.param);
                         });

}  // namespace
}  // namespace moerl
