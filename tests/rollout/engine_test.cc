#include "rollout/engine.h"

#include <gtest/gtest.h>

#include <future>
#include <limits>

#include "common/error.h"
#include "tests/rollout/tiny_model.h"

namespace moerl {
namespace {

using testing::CompletionMap;
using testing::error_text;
using testing::expect_empty;
using testing::expect_same_bits;
using testing::generate;
using ::testing::Test;
using testing::tiny_engine_config;
using testing::tiny_request;
using testing::TinyModel;

class EngineTest : public Test {
 protected:
  Engine make(const EngineConfig& config = tiny_engine_config()) {
    return Engine(tiny_.model, config, tiny_.ctx);
  }
  TinyModel tiny_;
};

/// Callbacks that remember how a request ended.
struct Outcome {
  GenerateCallbacks callbacks() {
    return {.on_completion = [this](Completion c) { completions.push_back(std::move(c)); },
            .on_done =
                [this](std::exception_ptr e) {
                  is_done = true;
                  error = e;
                }};
  }
  std::vector<Completion> completions;
  bool is_done = false;
  std::exception_ptr error;
};

TEST_F(EngineTest, SamplesDependOnSeedPromptIdAndSampleIndex) {
  Engine engine = make();
  GenerateRequest request = tiny_request(1, 2, 30);
  request.sampling.stop_token_ids.clear();
  const CompletionMap first = generate(engine, request);
  EXPECT_NE(first.at({10, 0}).token_ids, first.at({10, 1}).token_ids);
  request.seed = 43;
  EXPECT_NE(generate(engine, request).at({10, 0}).token_ids, first.at({10, 0}).token_ids);
  request.seed = 42;
  request.prompts[0].prompt_id = 99;
  EXPECT_NE(generate(engine, request).at({99, 0}).token_ids, first.at({10, 0}).token_ids);
}

TEST_F(EngineTest, AGroupsPartCanBeAskedForAgain) {
  Engine engine = make();
  GenerateRequest request = tiny_request(2, 5, 30);
  const CompletionMap whole = generate(engine, request);
  request.first_sample_index = 2;
  request.group_size = 2;
  const CompletionMap part = generate(engine, request);
  ASSERT_EQ(part.size(), 4u);
  for (const auto& [key, completion] : part) expect_same_bits(completion, whole.at(key));
}

TEST_F(EngineTest, StopsAtAStopTokenAndKeepsIt) {
  Engine engine = make();
  GenerateRequest request = tiny_request(4, 8, 200);
  int64_t stopped = 0;
  for (const auto& [key, completion] : generate(engine, request)) {
    const auto stop = std::find(completion.token_ids.begin(), completion.token_ids.end(), 5);
    if (completion.finish_reason == FinishReason::kStop) {
      EXPECT_EQ(stop, completion.token_ids.end() - 1);
      ++stopped;
    } else {
      EXPECT_EQ(stop, completion.token_ids.end());
    }
  }
  EXPECT_GT(stopped, 0);
}

TEST_F(EngineTest, TellsEachTokenAsItIsDrawnAndStopsWhereTheCallerSays) {
  Engine engine = make();
  GenerateRequest request = tiny_request(2, 3, 12);
  request.sampling.stop_token_ids.clear();
  const CompletionMap whole = generate(engine, request);
  request.num_top_log_probs = testing::kTinyVocab;
  CompletionMap told, cut;
  std::exception_ptr error;
  const auto key = std::pair(uint64_t{10}, int64_t{1});
  engine.submit(request,
                {.on_completion =
                     [&](Completion c) { cut.emplace(std::pair(c.prompt_id, c.sample_index), c); },
                 .on_done = [&](std::exception_ptr e) { error = e; },
                 .on_token =
                     [&](const DrawnToken& drawn) {
                       Completion& c = told[{drawn.prompt_id, drawn.sample_index}];
                       c.token_ids.push_back(drawn.token);
                       c.log_probs.push_back(drawn.log_prob);
                       EXPECT_EQ(static_cast<int64_t>(drawn.top.size()), testing::kTinyVocab);
                       for (const TokenLogProb& top : drawn.top) {
                         EXPECT_LE(top.log_prob, drawn.top[0].log_prob);
                         if (top.token == drawn.token) {
                           EXPECT_EQ(top.log_prob, drawn.log_prob);
                         }
                       }
                       return std::pair(drawn.prompt_id, drawn.sample_index) != key ||
                              c.token_ids.size() < 4;
                     }});
  while (engine.step()) {
  }
  EXPECT_FALSE(error);
  ASSERT_EQ(cut.size(), 6u);
  for (const auto& [id, completion] : cut) {
    EXPECT_EQ(completion.token_ids, told[id].token_ids);
    EXPECT_EQ(completion.log_probs, told[id].log_probs);
    const Completion& full = whole.at(id);
    const size_t length = id == key ? 4 : full.token_ids.size();
    EXPECT_EQ(completion.token_ids,
              std::vector<int32_t>(full.token_ids.begin(),
                                   full.token_ids.begin() + static_cast<std::ptrdiff_t>(length)));
    EXPECT_EQ(completion.finish_reason, id == key ? FinishReason::kStop : FinishReason::kLength);
  }
  expect_empty(engine);
}

TEST_F(EngineTest, SamplesNoMoreThanMaxTokens) {
  Engine engine = make();
  for (int64_t max_tokens : {1, 2, 33}) {
    GenerateRequest request = tiny_request(2, 3, max_tokens);
    request.sampling.stop_token_ids.clear();
    for (const auto& [key, completion] : generate(engine, request)) {
      EXPECT_EQ(static_cast<int64_t>(completion.token_ids.size()), max_tokens);
      EXPECT_EQ(completion.log_probs.size(), completion.token_ids.size());
      EXPECT_EQ(completion.finish_reason, FinishReason::kLength);
    }
  }
}

TEST_F(EngineTest, EndsAtTheModelsLongestSequence) {
  Engine engine = make();
  GenerateRequest request = tiny_request(1, 1, 10000);
  request.sampling.stop_token_ids.clear();
  request.prompts[0].token_ids.assign(500, 7);
  const Completion completion = generate(engine, request).at({10, 0});
  EXPECT_EQ(completion.token_ids.size(), 12u);
  EXPECT_EQ(completion.finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, TemperatureZeroTakesTheLikeliestTokenForEverySample) {
  Engine engine = make();
  GenerateRequest request = tiny_request(2, 3, 20);
  request.sampling.temperature = 0;
  const CompletionMap completions = generate(engine, request);
  for (uint64_t prompt : {10, 11})
    for (int64_t s : {1, 2})
      EXPECT_EQ(completions.at({prompt, s}).token_ids, completions.at({prompt, 0}).token_ids);
}

TEST_F(EngineTest, AGroupSharesItsPromptsBlocks) {
  EngineConfig config = tiny_engine_config();
  config.max_batched_tokens = 256;
  Engine engine = make(config);
  GenerateRequest request = tiny_request(1, 8, 4);
  request.sampling.stop_token_ids.clear();
  request.prompts[0].token_ids.assign(5 * 32 + 3, 7);
  Outcome outcome;
  engine.submit(request, outcome.callbacks());
  engine.step();
  engine.step();
  const EngineStatus status = engine.status();
  EXPECT_EQ(status.running_sequences, 8);
  EXPECT_EQ(status.kv_blocks_total - status.kv_blocks_free, 5 + 8);
  while (engine.step()) {
  }
  EXPECT_EQ(outcome.completions.size(), 8u);
  expect_empty(engine);
}

TEST_F(EngineTest, CancelEndsTheRequestAndFreesItsBlocks) {
  Engine engine = make();
  Outcome cancelled, other;
  GenerateRequest request = tiny_request(2, 4, 300);
  request.sampling.stop_token_ids.clear();
  const uint64_t id = engine.submit(request, cancelled.callbacks());
  GenerateRequest kept = tiny_request(1, 2, 10);
  engine.submit(kept, other.callbacks());
  for (int i = 0; i < 5; ++i) engine.step();
  engine.cancel(id);
  while (engine.step()) {
  }
  ASSERT_TRUE(cancelled.is_done);
  EXPECT_THROW(std::rethrow_exception(cancelled.error), Cancelled);
  EXPECT_TRUE(cancelled.completions.empty());
  EXPECT_EQ(other.completions.size(), 2u);
  EXPECT_EQ(other.error, nullptr);
  expect_empty(engine);
  engine.cancel(id);  // has ended: nothing happens
  EXPECT_FALSE(engine.step());
}

TEST_F(EngineTest, RefusesBadRequestsNamingFieldGotAndAllowed) {
  Engine engine = make();
  const auto refusal = [&](const std::function<void(GenerateRequest&)>& change) {
    GenerateRequest request = tiny_request(2, 2, 10);
    change(request);
    return error_text<std::invalid_argument>([&] { engine.submit(request, {}); });
  };
  const std::vector<std::pair<std::function<void(GenerateRequest&)>, std::string>> cases = {
      {[](auto& r) { r.prompts.clear(); }, "prompts is empty"},
      {[](auto& r) { r.prompts[1].token_ids.clear(); }, "prompts[1].token_ids is empty"},
      {[](auto& r) {
         r.prompts[1].token_ids = {1, 64};
       },
       "prompts[1].token_ids[1] is 64, expected a token id in [0, 64)"},
      {[](auto& r) { r.prompts[0].token_ids = {-1}; }, "prompts[0].token_ids[0] is -1"},
      {[](auto& r) { r.prompts[0].token_ids.assign(512, 1); },
       "prompts[0].token_ids has 512 tokens, expected at most 511"},
      {[](auto& r) { r.group_size = 0; }, "group_size is 0, expected >= 1"},
      {[](auto& r) { r.first_sample_index = -1; }, "first_sample_index is -1"},
      {[](auto& r) { r.policy_version = -2; }, "policy_version is -2"},
      {[](auto& r) { r.sampling.temperature = -1; }, "sampling.temperature is -1"},
      {[](auto& r) { r.sampling.temperature = std::numeric_limits<double>::quiet_NaN(); },
       "sampling.temperature is nan"},
      {[](auto& r) { r.sampling.top_k = -1; }, "sampling.top_k is -1"},
      {[](auto& r) { r.sampling.top_p = 1.5; }, "sampling.top_p is 1.5, expected in (0, 1]"},
      {[](auto& r) { r.sampling.min_p = 1; }, "sampling.min_p is 1, expected in [0, 1)"},
      {[](auto& r) { r.sampling.max_tokens = 0; }, "sampling.max_tokens is 0, expected >= 1"},
      {[](auto& r) {
         r.sampling.stop_token_ids = {3, 99};
       },
       "sampling.stop_token_ids[1] is 99"},
      {[](auto& r) { r.group_size = 501; }, "expected at most max_queue = 1000"},
  };
  for (const auto& [change, text] : cases) {
    const std::string got = refusal(change);
    EXPECT_NE(got.find(text), std::string::npos) << "got: " << got << "\nexpected: " << text;
  }
  expect_empty(engine);
}

TEST_F(EngineTest, RefusesASequenceThatCanNeverFitInTheCache) {
  EngineConfig config = tiny_engine_config();
  config.num_kv_blocks = 3;
  Engine engine = make(config);
  GenerateRequest request = tiny_request(1, 1, 64);  // the prompt has 32 tokens
  EXPECT_EQ(generate(engine, request).size(), 1u);
  request.sampling.max_tokens = 65;
  const std::string text = error_text<std::invalid_argument>([&] { engine.submit(request, {}); });
  EXPECT_NE(text.find("need 4 key-value blocks; the worker has 3"), std::string::npos) << text;
}

TEST_F(EngineTest, RefusesWorkBeyondTheQueue) {
  EngineConfig config = tiny_engine_config();
  config.max_queue = 10;
  Engine engine = make(config);
  Outcome first, second;
  engine.submit(tiny_request(2, 4, 10), first.callbacks());
  const std::string text = error_text<ResourceExhausted>(
      [&] { engine.submit(tiny_request(1, 3, 10), second.callbacks()); });
  EXPECT_NE(text.find("max_queue is 10"), std::string::npos) << text;
  while (engine.step()) {
  }
  engine.submit(tiny_request(1, 3, 10), second.callbacks());
  while (engine.step()) {
  }
  EXPECT_EQ(second.completions.size(), 3u);
}

TEST_F(EngineTest, RefusesAnotherPolicyVersion) {
  Engine engine = make();
  engine.set_policy_version(7);
  GenerateRequest request = tiny_request(1, 1, 4);
  request.policy_version = 6;
  const std::string text = error_text<FailedPrecondition>([&] { engine.submit(request, {}); });
  EXPECT_NE(text.find("policy_version is 6, the worker holds version 7"), std::string::npos);
  request.policy_version = 7;
  EXPECT_EQ(generate(engine, request).at({10, 0}).policy_version, 7);
  request.policy_version = -1;
  EXPECT_EQ(generate(engine, request).at({10, 0}).policy_version, 7);
}

TEST_F(EngineTest, RefusesEverythingUntilWeightsHaveCome) {
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx, kNoWeights);
  EXPECT_EQ(engine.status().policy_version, kNoWeights);
  EXPECT_THROW(engine.submit(tiny_request(1, 1, 4), {}), FailedPrecondition);
  engine.set_policy_version(0);
  EXPECT_EQ(generate(engine, tiny_request(1, 1, 4)).size(), 1u);
}

TEST_F(EngineTest, TheVersionCannotChangeUnderARunningRequest) {
  Engine engine = make();
  Outcome outcome;
  engine.submit(tiny_request(1, 2, 100), outcome.callbacks());
  engine.step();
  EXPECT_THROW(engine.set_policy_version(1), FailedPrecondition);
  while (engine.step()) {
  }
  EXPECT_NO_THROW(engine.set_policy_version(1));
}

TEST_F(EngineTest, RunningRequestsFinishBeforeWeightsChangeAndLaterOnesWait) {
  Engine engine = make();
  Outcome before, after;
  engine.submit(tiny_request(2, 4, 50), before.callbacks());
  engine.step();
  bool was_done = false;
  engine.with_exclusive_weights([&] {
    was_done = before.is_done;
    GenerateRequest request = tiny_request(1, 1, 4);
    request.policy_version = 0;
    engine.submit(request, after.callbacks());
    EXPECT_FALSE(engine.step());  // held back
    engine.set_policy_version(1);
  });
  EXPECT_TRUE(was_done);
  EXPECT_FALSE(after.is_done);
  engine.step();
  ASSERT_TRUE(after.is_done);  // asked for the version that is gone
  EXPECT_THROW(std::rethrow_exception(after.error), FailedPrecondition);
}

TEST_F(EngineTest, AFailedChangeOfWeightsLeavesTheEngineServing) {
  Engine engine = make();
  EXPECT_THROW(engine.with_exclusive_weights([] { throw IoError("no"); }), IoError);
  EXPECT_EQ(generate(engine, tiny_request(1, 1, 4)).size(), 1u);
}

TEST_F(EngineTest, ItsThreadServesManyCallersAndGivesTheSameBits) {
  Engine stepped = make();
  const CompletionMap reference = generate(stepped, tiny_request(6, 2, 30));
  Engine engine = make();
  engine.start();
  std::vector<std::future<std::vector<Completion>>> calls;
  for (size_t i = 0; i < 6; ++i)
    calls.push_back(std::async(std::launch::async, [&engine, i] {
      GenerateRequest request = tiny_request(6, 2, 30);
      request.prompts = {request.prompts[i]};
      std::promise<void> done;
      std::vector<Completion> completions;
      engine.submit(request, {[&](Completion c) { completions.push_back(std::move(c)); },
                              [&](std::exception_ptr) { done.set_value(); }});
      done.get_future().wait();
      return completions;
    }));
  for (auto& call : calls)
    for (const Completion& c : call.get())
      expect_same_bits(c, reference.at({c.prompt_id, c.sample_index}));
  engine.with_exclusive_weights([&] { engine.set_policy_version(3); });
  EXPECT_EQ(engine.status().policy_version, 3);
  expect_empty(engine);
}

TEST_F(EngineTest, StopEndsEveryRequestWithCancelled) {
  Engine engine = make();
  engine.start();
  GenerateRequest request = tiny_request(4, 8, 400);
  request.sampling.stop_token_ids.clear();
  Outcome outcome;
  engine.submit(request, outcome.callbacks());
  engine.stop();
  ASSERT_TRUE(outcome.is_done);
  EXPECT_THROW(std::rethrow_exception(outcome.error), Cancelled);
  EXPECT_THROW(engine.submit(request, {}), Cancelled);
}

TEST_F(EngineTest, NotANumberEndsEveryRequestWithNumericalErrorAndTheEngineGoesOn) {
  Engine engine = make();
  Parameter* norm = tiny_.model.parameters().back();
  for (Parameter* p : tiny_.model.parameters())
    if (p->name == "model.norm.weight") norm = p;
  const Tensor good = norm->value.clone();
  norm->value.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  tiny_.model.pack(tiny_.ctx);
  Outcome outcome;
  engine.submit(tiny_request(2, 2, 10), outcome.callbacks());
  while (engine.step()) {
  }
  ASSERT_TRUE(outcome.is_done);
  EXPECT_THROW(std::rethrow_exception(outcome.error), NumericalError);
  expect_empty(engine);
  std::copy_n(good.data<float>(), good.numel(), norm->value.data<float>());
  tiny_.model.pack(tiny_.ctx);
  EXPECT_EQ(generate(engine, tiny_request(1, 1, 4)).size(), 1u);
}

TEST_F(EngineTest, RefusesAnUnusableConfiguration) {
  EngineConfig config = tiny_engine_config();
  config.num_kv_blocks = 0;
  config.kv_cache_bytes = 10;
  EXPECT_NE(error_text<std::invalid_argument>([&] { make(config); }).find("kv_cache_bytes is 10"),
            std::string::npos);
  config.kv_cache_bytes = 5 * KvCache::block_bytes(tiny_.model.config(), DType::kBF16);
  EXPECT_EQ(make(config).status().kv_blocks_total, 5);
  config.max_batched_tokens = config.max_num_seqs - 1;
  EXPECT_THROW(make(config), std::invalid_argument);
}

}  // namespace
}  // namespace moerl
