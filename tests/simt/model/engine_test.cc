// The sampling engine on Device::kCuda: decode steps by CUDA graphs have the bits of eager ones, of
// the training forward, and in fp32 of the CPU.
#include "rollout/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/loss/token_log_prob.h"
#include "policy/weight_source.h"
#include "rollout/decode_graphs.h"
#include "tests/policy/masters_of.h"
#include "tests/policy/tiny_model.h"
#include "tests/rollout/tiny_model.h"
#include "tests/simt/orders.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {
namespace {

using Variant = std::tuple<Precision, std::string>;

auto variants() {
  return ::testing::Combine(::testing::Values(DType::kBF16, DType::kF32, Precision::fp8()),
                            ::testing::Values("expanded", "absorbed"));
}
std::string variant_name(const ::testing::TestParamInfo<Variant>& p) {
  return std::string(std::get<0>(p.param).name()) + "_" + std::get<1>(p.param);
}

/// Of up to a dozen sequences, so that a run passes through several buckets.
GenerateRequest request(int64_t num_prompts = 4, int64_t group_size = 3, int64_t max_tokens = 14) {
  GenerateRequest request = tiny_request(num_prompts, group_size, max_tokens);
  for (TokenizedPrompt& prompt : request.prompts)
    prompt.token_ids.resize(std::min<size_t>(prompt.token_ids.size(), 33));
  return request;
}

class EngineOnDeviceTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    set_run_order(run_orders().back());
    device_ = model(Device::kCuda);
  }
  std::unique_ptr<TinyModel> model(Device device, uint64_t seed = 3) const {
    return std::make_unique<TinyModel>(std::get<0>(GetParam()), std::get<1>(GetParam()), 1, seed,
                                       device);
  }
  static EngineConfig eager(EngineConfig config) {
    config.enforce_eager = true;
    return config;
  }
  CompletionMap run(TinyModel& tiny, const EngineConfig& config, const GenerateRequest& request) {
    Engine engine(tiny.model, config, tiny.ctx);
    CompletionMap completions = generate(engine, request);
    expect_empty(engine);
    status_ = engine.status();
    return completions;
  }

  std::unique_ptr<TinyModel> device_;
  EngineStatus status_;
};
INSTANTIATE_TEST_SUITE_P(All, EngineOnDeviceTest, variants(), variant_name);

TEST_P(EngineOnDeviceTest, GraphsHaveTheBitsOfEagerSteps) {
  const CompletionMap graphs = run(*device_, tiny_engine_config(), request());
  EXPECT_GT(status_.num_graph_steps, 5);
  EXPECT_GT(status_.num_steps_ahead, 3);
  const CompletionMap expected = run(*device_, eager(tiny_engine_config()), request());
  EXPECT_EQ(status_.num_graph_steps, 0);
  expect_same_bits(graphs, expected);
  if (std::get<0>(GetParam()) != Precision(DType::kF32)) return;
  const auto cpu = model(Device::kCpu);
  expect_same_bits(graphs, run(*cpu, tiny_engine_config(), request()));
}

// Preempted sequences come back to other blocks; a step holds as many as there is room for.
TEST_P(EngineOnDeviceTest, PreemptionAndLimitsChangeNothing) {
  GenerateRequest wanted = request(4, 2, 40);
  wanted.sampling.stop_token_ids.clear();
  const CompletionMap reference = run(*device_, eager(tiny_engine_config()), wanted);
  EngineConfig config = tiny_engine_config();
  config.num_kv_blocks = 7;
  config.max_batched_tokens = 48;
  expect_same_bits(run(*device_, config, wanted), reference);
  EXPECT_GT(status_.num_preemptions, 0);
  EXPECT_GT(status_.num_steps_ahead, 0);
  config = tiny_engine_config();
  config.max_num_seqs = 3;  // no power of two: the last bucket is cut
  expect_same_bits(run(*device_, config, wanted), reference);
}

// Buckets of 1, 8, 16 and back: requests come and go, and each is drawn as if it were alone.
TEST_P(EngineOnDeviceTest, SequencesThatComeAndGoChangeNothing) {
  std::vector<GenerateRequest> requests = {request(1, 1, 20), request(3, 4, 6), request(2, 2, 9)};
  std::vector<CompletionMap> got(requests.size()), expected;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].seed = 100 + i;
    requests[i].sampling.stop_token_ids.clear();
    expected.push_back(run(*device_, eager(tiny_engine_config()), requests[i]));
  }
  Engine engine(device_->model, tiny_engine_config(), device_->ctx);
  for (size_t i = 0; i < requests.size(); ++i) {
    engine.submit(requests[i], {.on_completion = [&, i](Completion c) {
                    const auto key = std::pair(c.prompt_id, c.sample_index);
                    got[i].emplace(key, std::move(c));
                  }});
    for (int step = 0; step < 4; ++step) engine.step();
  }
  while (engine.step()) {
  }
  for (size_t i = 0; i < requests.size(); ++i) expect_same_bits(got[i], expected[i]);
  EXPECT_GT(engine.status().num_graph_steps, 10);
}

// A step that is on its way when the last request ends serves nobody, the next request least of
// all.
TEST_P(EngineOnDeviceTest, CancelledRequestsLeaveNothingBehind) {
  const CompletionMap expected = run(*device_, eager(tiny_engine_config()), request());
  GenerateRequest endless = request(2, 2, 200);
  endless.sampling.stop_token_ids.clear();
  Engine engine(device_->model, tiny_engine_config(), device_->ctx);
  for (int steps : {4, 7}) {
    bool cancelled = false;
    const uint64_t id = engine.submit(
        endless, {.on_done = [&](std::exception_ptr error) { cancelled = error != nullptr; }});
    for (int i = 0; i < steps; ++i) engine.step();
    const int64_t ahead = engine.status().num_steps_ahead;
    engine.step();
    EXPECT_EQ(engine.status().num_steps_ahead, ahead + 1);  // one is on its way
    engine.cancel(id);
    expect_same_bits(generate(engine, request()), expected);
    EXPECT_TRUE(cancelled);
    expect_empty(engine);
  }
}

// The step behind the one that fails is on its way by then, and fails like it.
TEST_P(EngineOnDeviceTest, AfterAnErrorTheNextRequestIsServed) {
  const CompletionMap expected = run(*device_, eager(tiny_engine_config()), request());
  GenerateRequest endless = request(2, 2, 200);
  endless.sampling.stop_token_ids.clear();
  Engine engine(device_->model, tiny_engine_config(), device_->ctx);
  std::string error;
  engine.submit(endless, {.on_done = [&](std::exception_ptr e) {
                  error = error_text<NumericalError>([&] { std::rethrow_exception(e); });
                }});
  for (int i = 0; i < 5; ++i) engine.step();
  Tensor& embedding = device_->model.parameters()[0]->value;
  const Tensor weights = embedding.to(Device::kCpu).clone();
  std::vector<float> nan(static_cast<size_t>(weights.numel()),
                         std::numeric_limits<float>::quiet_NaN());
  embedding.copy_from_host(nan.data());
  device_->model.pack(device_->ctx);
  while (engine.step()) {
  }
  EXPECT_NE(error.find("has no distribution"), std::string::npos) << error;
  expect_empty(engine);
  engine.with_exclusive_weights([&] {
    embedding.copy_from(weights);
    device_->model.pack(device_->ctx);
  });
  expect_same_bits(generate(engine, request()), expected);
}

// Whoever looks at the tokens says when it is enough: the step behind is on its way by then.
TEST_P(EngineOnDeviceTest, CompletionsEndWithTheTokenThatTheirCallerStopsAt) {
  const GenerateRequest wanted = request(2, 3, 20);
  const auto stopped = [&](const EngineConfig& config) {
    Engine engine(device_->model, config, device_->ctx);
    CompletionMap completions;
    std::map<std::pair<uint64_t, int64_t>, size_t> count;
    engine.submit(wanted, {.on_completion =
                               [&](Completion c) {
                                 const auto key = std::pair(c.prompt_id, c.sample_index);
                                 completions.emplace(key, std::move(c));
                               },
                           .on_token =
                               [&](const DrawnToken& token) {
                                 const auto key = std::pair(token.prompt_id, token.sample_index);
                                 return ++count[key] < 4 + 2 * static_cast<size_t>(key.second);
                               }});
    while (engine.step()) {
    }
    expect_empty(engine);
    return completions;
  };
  expect_same_bits(stopped(tiny_engine_config()), stopped(eager(tiny_engine_config())));
}

// A graph reads the weights as they are when it is launched, wherever they come from.
TEST_P(EngineOnDeviceTest, NewWeightsAreThoseOfTheNextStep) {
  Engine engine(device_->model, tiny_engine_config(), device_->ctx);
  generate(engine, request());
  const auto other = model(Device::kCuda, 4);
  const CompletionMap expected = run(*other, eager(tiny_engine_config()), request());
  engine.with_exclusive_weights([&] {
    device_->model.init_weights(4);
    device_->model.pack(device_->ctx);
  });
  expect_same_bits(generate(engine, request()), expected);
}

TEST_P(EngineOnDeviceTest, WeightsThatAreLoadedAgainAreThoseOfTheNextStep) {
  Transformer dropped(device_->model.config(), device_->model.precision(), Masters::kDropped,
                      Device::kCuda);
  const auto other = model(Device::kCuda, 4);
  MastersOf first(device_->model), second(other->model);
  dropped.load(device_->ctx, first);
  Engine engine(dropped, tiny_engine_config(), device_->ctx);
  expect_same_bits(generate(engine, request()),
                   run(*device_, eager(tiny_engine_config()), request()));
  engine.with_exclusive_weights([&] { dropped.load(device_->ctx, second); });
  expect_same_bits(generate(engine, request()),
                   run(*other, eager(tiny_engine_config()), request()));
  EXPECT_GT(engine.status().num_graph_steps, 10);
}

TEST_P(EngineOnDeviceTest, LogProbsAreThoseOfTheTrainingForward) {
  GenerateRequest wanted = request();
  wanted.sampling.temperature = 0.8;
  wanted.sampling.top_p = 0.95;
  const CompletionMap completions = run(*device_, tiny_engine_config(), wanted);
  const auto [sequences, rows, targets, sampled] = drawn_rows(wanted, completions);
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(device_->model.config(), device_->model.dtype(), packed.num_blocks, Device::kCuda);
  TrainingPass pass;
  const Tensor hidden = device_->model.forward(device_->ctx, packed.batch, cache, &pass);
  const Tensor logits = device_->model.logits(device_->ctx, hidden, rows);
  std::vector<float> trained(rows.size());
  kernels::log_prob_from_logits(device_->ctx, logits, kTinyVocab, 0.8f, targets, trained, {}, {});
  EXPECT_EQ(trained, sampled);
}

TEST_P(EngineOnDeviceTest, TopLogProbsAreThoseOfTheStep) {
  GenerateRequest wanted = request(2, 2, 6);
  wanted.num_top_log_probs = 3;
  const auto top_of = [&](const EngineConfig& config) {
    std::map<std::tuple<uint64_t, int64_t, size_t>, std::vector<TokenLogProb>> top;
    std::map<std::pair<uint64_t, int64_t>, size_t> count;
    Engine engine(device_->model, config, device_->ctx);
    engine.submit(
        wanted, {.on_token = [&](const DrawnToken& token) {
          const size_t i = count[{token.prompt_id, token.sample_index}]++;
          top[{token.prompt_id, token.sample_index, i}] = {token.top.begin(), token.top.end()};
          return true;
        }});
    while (engine.step()) {
    }
    return top;
  };
  EXPECT_TRUE(top_of(tiny_engine_config()) == top_of(eager(tiny_engine_config())));
}

/// Decode steps by hand, on a cache of which each byte is known.
class DecodeGraphsTest : public EngineOnDeviceTest {
 protected:
  static constexpr int64_t kBlocks = 40, kKeys = 1200;  // two splits of attention

  void SetUp() override {
    EngineOnDeviceTest::SetUp();
    if (IsSkipped()) return;
    ModelConfig config = device_->model.config();
    config.max_position_embeddings = kKeys;
    model_ = std::make_unique<Transformer>(config, std::get<0>(GetParam()), Masters::kKept,
                                           Device::kCuda);
    model_->init_weights(3);
    model_->pack(device_->ctx);
    cache_ = std::make_unique<KvCache>(config, model_->dtype(), kBlocks, Device::kCuda);
    uint64_t seed = 1;
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
      for (Tensor* x : {&cache_->layer(layer).keys, &cache_->layer(layer).values})
        if (x->defined()) x->copy_from(random_tensor(x->shape(), x->dtype(), seed++));
  }
  /// Every tensor of the cache, on the host.
  std::vector<Tensor> contents() const {
    std::vector<Tensor> all;
    for (int64_t layer = 0; layer < model_->config().num_hidden_layers; ++layer)
      for (const Tensor* x : {&cache_->layer(layer).keys, &cache_->layer(layer).values})
        if (x->defined()) all.push_back(x->to(Device::kCpu).clone());
    return all;
  }
  void restore(const std::vector<Tensor>& contents) const {
    size_t i = 0;
    for (int64_t layer = 0; layer < model_->config().num_hidden_layers; ++layer)
      for (Tensor* x : {&cache_->layer(layer).keys, &cache_->layer(layer).values})
        if (x->defined()) x->copy_from(contents[i++]);
  }
  /// A token of each sequence: where it stands, and its blocks.
  struct Step {
    ForwardBatch batch;
    std::vector<std::vector<int32_t>> tables;
    std::vector<kernels::SampleParams> params;
  };
  static Step make_step(const std::vector<int64_t>& positions, const std::vector<int32_t>& blocks) {
    Step step;
    size_t next = 0;
    for (int64_t position : positions) {
      std::vector<int32_t>& table = step.tables.emplace_back();
      for (int64_t p = 0; p <= position; p += kernels::kKvBlock) table.push_back(blocks[next++]);
    }
    for (size_t i = 0; i < positions.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      step.batch.token_ids.push_back(static_cast<int32_t>(7 + 3 * i));
      step.batch.positions.push_back(static_cast<int32_t>(positions[i]));
      step.batch.segments.push_back({row, 1, positions[i], step.tables[i]});
      step.params.push_back({.temperature = 0.9f, .uniform = {1, 2, static_cast<uint32_t>(i), 3}});
    }
    return step;
  }
  struct Outcome {
    std::vector<int32_t> tokens;
    std::vector<float> log_probs;
    Tensor logits;
    std::vector<Tensor> cache;
  };
  Outcome by_graph(DecodeGraphs& graphs, const Step& step) const {
    Outcome out{
        std::vector<int32_t>(step.params.size()), std::vector<float>(step.params.size()), {}, {}};
    graphs.launch(step.batch, step.params);
    graphs.fetch(out.tokens, out.log_probs);
    out.logits = graphs.logits().to(Device::kCpu).clone();
    out.cache = contents();
    return out;
  }
  Outcome by_hand(const Step& step) const {
    const Transformer& model = *model_;
    Outcome out{
        std::vector<int32_t>(step.params.size()), std::vector<float>(step.params.size()), {}, {}};
    const Tensor hidden = model.forward(device_->ctx, step.batch, *cache_);
    std::vector<int32_t> rows(step.params.size());
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
    const Tensor logits = model.logits(device_->ctx, hidden, rows);
    kernels::sample_token(device_->ctx, logits, kTinyVocab, step.params, out.tokens, out.log_probs);
    out.logits = logits.to(Device::kCpu);
    out.cache = contents();
    return out;
  }
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<KvCache> cache_;
};
INSTANTIATE_TEST_SUITE_P(All, DecodeGraphsTest, variants(), variant_name);

// Steps of several sizes by the same graphs, with other places, tables and lengths each time. The
// rows of a bucket that nobody has write nothing, into the blocks of others least of all.
TEST_P(DecodeGraphsTest, AStepDoesWhatItsRowsDoAndNothingElse) {
  std::vector<Step> steps;  // of which none is copied: segments point into tables
  steps.push_back(make_step({3, 40, 31}, {5, 2, 7, 1}));
  steps.push_back(make_step({4}, {6}));
  steps.push_back(make_step({0, 33, 64, 9, 12}, {0, 3, 4, 1, 2, 7, 5, 6}));
  steps.push_back(make_step({32, 1, 2}, {4, 7, 3, 0}));
  std::vector<int32_t> blocks(39);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>((i * 7 + 1) % 40);
  steps.push_back(make_step({5, 1100, 40}, blocks));  // the longest behind the first split
  for (bool recycles : {false, true}) {
    DecodeGraphs graphs(*model_, *cache_, device_->ctx, 5, std::make_shared<MemoryPool>(recycles));
    for (const Step& step : steps) {
      const std::vector<Tensor> before = contents();
      const Outcome expected = by_hand(step);
      restore(before);
      const Outcome got = by_graph(graphs, step);
      EXPECT_EQ(got.tokens, expected.tokens);
      EXPECT_EQ(got.log_probs, expected.log_probs);
      EXPECT_TRUE(same_bits(got.logits, expected.logits));
      for (size_t i = 0; i < got.cache.size(); ++i)
        EXPECT_TRUE(same_bits(got.cache[i], expected.cache[i])) << "tensor " << i;
    }
    EXPECT_EQ(graphs.num_steps(), 5);
    EXPECT_GT(graphs.memory_bytes(), 5 * kTinyVocab * 4);
  }
}

TEST_P(DecodeGraphsTest, ARowWithoutADistributionIsNamed) {
  DecodeGraphs graphs(*model_, *cache_, device_->ctx, 4);
  const Step step = make_step({3, 5, 9}, {1, 2, 3});
  by_graph(graphs, step);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (Tensor* x : {&cache_->layer(0).keys, &cache_->layer(0).values}) {
    if (!x->defined()) continue;
    Tensor block = Tensor::empty({x->numel() / x->dim(0)}, DType::kF32);
    std::fill(block.data<float>(), block.data<float>() + block.numel(), nan);
    Tensor typed = Tensor::empty(block.shape(), x->dtype());
    ExecContext cpu(1);
    kernels::cast(cpu, block, typed);
    x->rows(2, 3).copy_from(typed);
  }
  const std::string error = error_text<NumericalError>([&] { by_graph(graphs, step); });
  EXPECT_NE(error.find("row 1 of 3 has no distribution"), std::string::npos) << error;
}

TEST_P(DecodeGraphsTest, WrongBatchesAreRefused) {
  DecodeGraphs graphs(*model_, *cache_, device_->ctx, 2);
  EXPECT_NE(error_text<std::invalid_argument>([&] {
              by_graph(graphs, make_step({1, 2, 3}, {0, 1, 2}));
            }).find("3 rows"),
            std::string::npos);
  Step step = make_step({1, 2}, {0, 1});
  step.batch.positions[1] = 5;
  EXPECT_THROW(by_graph(graphs, step), std::invalid_argument);
}

// What the budget of a run says before the first step.
TEST(DecodeGraphsMemoryTest, IsAtLeastWhatAndAtMostTwiceWhatTheyTake) {
  ExecContext device(1, detect_isa(), Device::kCuda);
  for (const ModelConfig& config :
       {tiny_config("expanded"), tiny_config("absorbed"), plain_config(), tiny_deepseek_v2(),
        tiny_llama(), tiny_qwen2(), tiny_qwen3_moe()})
    for (Precision precision :
         {Precision(DType::kBF16), Precision(DType::kF32), Precision::fp8()}) {
      const auto model = make_model(device, config, precision);
      KvCache cache(config, precision.dtype, 16, Device::kCuda);
      DecodeGraphs graphs(*model, cache, device, 64, std::make_shared<MemoryPool>(true));
      const std::vector<int32_t> table = {3};
      const ForwardBatch batch{{1}, {0}, {{0, 1, 0, table}}};
      const std::vector<kernels::SampleParams> params(1);
      int32_t token = 0;
      float log_prob = 0;
      const std::span tokens(&token, 1);
      const std::span log_probs(&log_prob, 1);
      graphs.launch(batch, params);
      graphs.fetch(tokens, log_probs);
      const double took = static_cast<double>(graphs.memory_bytes()),
                   said = static_cast<double>(DecodeGraphs::memory_estimate(config, precision, 64));
      EXPECT_GE(said, took) << config.model_type << " " << precision.name();
      EXPECT_LE(said, 2 * took) << config.model_type << " " << precision.name();
    }
}

TEST(DecodeGraphsBucketTest, IsTheSmallestThatHoldsTheStep) {
  const DecodeGraphs::Bucket most{100, 5000};
  const std::pair<int64_t, int64_t> rows[] = {{1, 1},   {2, 2},   {3, 4},    {5, 8},
                                              {8, 8},   {9, 16},  {16, 16},  {17, 32},
                                              {33, 48}, {95, 96}, {97, 100}, {100, 100}};
  for (const auto& [step, bucket] : rows)
    EXPECT_EQ(DecodeGraphs::bucket({step, 7}, most).rows, bucket) << step;
  const std::pair<int64_t, int64_t> keys[] = {{1, 1024},    {1024, 1024}, {1025, 2048},
                                              {2049, 4096}, {4097, 5000}, {5000, 5000}};
  for (const auto& [step, bucket] : keys)
    EXPECT_EQ(DecodeGraphs::bucket({7, step}, most).keys, bucket) << step;
  EXPECT_EQ(DecodeGraphs::bucket({2, 100}, {3, 200}), (DecodeGraphs::Bucket{2, 200}));
  EXPECT_EQ(DecodeGraphs::bucket({3, 100}, {3, 200}), (DecodeGraphs::Bucket{3, 200}));
}

}  // namespace
}  // namespace moerl::testing
