#include "rollout/worker_pool.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "rollout/rollout_server.h"
#include "tests/rollout/tiny_model.h"

namespace moerl {
namespace {

using testing::CompletionMap;
using testing::error_text;
using testing::expect_same_bits;
using testing::tiny_engine_config;
using testing::tiny_request;
using testing::TinyModel;

/// A worker of its own: model, threads and server, as another process would have them.
struct TestWorker {
  explicit TestWorker(DType dtype = DType::kBF16, EngineConfig config = tiny_engine_config())
      : tiny(dtype),
        server(std::make_unique<RolloutServer>(
            tiny.model, RolloutServerConfig{.engine = config, .address = "127.0.0.1:0"}, tiny.ctx)),
        address("127.0.0.1:" + std::to_string(server->port())) {}
  TinyModel tiny;
  std::unique_ptr<RolloutServer> server;
  std::string address;
};

class WorkerPoolTest : public ::testing::Test {
 protected:
  /// What one engine gives, in the pool's order.
  static std::vector<Completion> reference(const GenerateRequest& request) {
    TinyModel tiny;
    Engine engine(tiny.model, tiny_engine_config(), tiny.ctx);
    const CompletionMap completions = testing::generate(engine, request);
    std::vector<Completion> ordered;
    for (const TokenizedPrompt& prompt : request.prompts)
      for (int64_t s = 0; s < request.group_size; ++s)
        ordered.push_back(completions.at({prompt.prompt_id, request.first_sample_index + s}));
    return ordered;
  }
  static void expect_same(const std::vector<Completion>& a, const std::vector<Completion>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].prompt_id, b[i].prompt_id);
      EXPECT_EQ(a[i].sample_index, b[i].sample_index);
      expect_same_bits(a[i], b[i]);
    }
  }
  static WorkerPool pool_of(const std::vector<TestWorker*>& workers,
                            const WorkerPoolConfig& config = small_config()) {
    std::vector<std::string> addresses;
    for (TestWorker* worker : workers) addresses.push_back(worker->address);
    return WorkerPool::connect(addresses, config);
  }
  static WorkerPoolConfig small_config() {
    return {.call_timeout_s = 60, .max_inflight_sequences = 6, .prompts_per_call = 2};
  }
};

TEST_F(WorkerPoolTest, AnyNumberOfWorkersGivesTheSameBitsInTheSameOrder) {
  GenerateRequest request = tiny_request(9, 3, 30);
  std::swap(request.prompts[0], request.prompts[4]);  // order of the request, not of the ids
  const std::vector<Completion> expected = reference(request);
  TestWorker a, b, c;
  expect_same(pool_of({&a}).generate(request), expected);
  expect_same(pool_of({&a, &b}).generate(request), expected);
  WorkerPool three = pool_of({&a, &b, &c});
  expect_same(three.generate(request), expected);
  EXPECT_EQ(three.num_alive(), 3);
  EXPECT_EQ(three.numeric_family(), "cpu-bf16-expanded");
}

TEST_F(WorkerPoolTest, InProcessWorkersGiveTheSameBits) {
  const GenerateRequest request = tiny_request(5, 4, 30);
  TestWorker a, b;
  WorkerPool pool({{a.server->in_process_channel(), "embedded 0"},
                   {b.server->in_process_channel(), "embedded 1"}});
  std::vector<Completion> arrived;
  const std::vector<Completion> all =
      pool.generate(request, [&](const Completion& c) { arrived.push_back(c); });
  expect_same(all, reference(request));
  EXPECT_EQ(arrived.size(), all.size());
}

TEST_F(WorkerPoolTest, PartsOfGroupsKeepTheirSampleIndices) {
  GenerateRequest request = tiny_request(3, 2, 20);
  request.first_sample_index = 5;
  TestWorker a;
  expect_same(pool_of({&a}).generate(request), reference(request));
}

TEST_F(WorkerPoolTest, AWorkerKilledMidCallChangesNothing) {
  const GenerateRequest request = tiny_request(12, 4, 60);
  const std::vector<Completion> expected = reference(request);
  TestWorker a, b;
  WorkerPool pool = pool_of({&a, &b});
  int arrived = 0;
  const std::vector<Completion> got = pool.generate(request, [&](const Completion&) {
    if (++arrived == 5) b.server.reset();
  });
  expect_same(got, expected);
  EXPECT_EQ(arrived, 48);
  // The next call does without it, too.
  expect_same(pool.generate(request), expected);
  EXPECT_EQ(pool.num_alive(), 1);
}

TEST_F(WorkerPoolTest, AWorkerThatComesBackIsUsedAgain) {
  const GenerateRequest request = tiny_request(4, 2, 20);
  const std::vector<Completion> expected = reference(request);
  TestWorker a, b;
  WorkerPool pool({{a.server->in_process_channel(), "a"}, {b.server->in_process_channel(), "b"}},
                  small_config());
  b.server->engine().set_policy_version(1);
  GenerateRequest versioned = request;
  versioned.policy_version = 0;
  expect_same(pool.generate(versioned), expected);
  EXPECT_EQ(pool.num_alive(), 1);
  b.server->engine().set_policy_version(0);
  expect_same(pool.generate(versioned), expected);
  EXPECT_EQ(pool.num_alive(), 2);
}

TEST_F(WorkerPoolTest, AllWorkersDeadIsAnErrorThatListsThem) {
  const GenerateRequest request = tiny_request(12, 4, 60);
  TestWorker a, b;
  WorkerPool pool = pool_of({&a, &b});
  int arrived = 0;
  const std::string text = error_text<RpcError>([&] {
    pool.generate(request, [&](const Completion&) {
      if (++arrived != 5) return;
      a.server.reset();
      b.server.reset();
    });
  });
  EXPECT_NE(text.find("no worker is left"), std::string::npos) << text;
  EXPECT_NE(text.find("rollout worker " + a.address), std::string::npos) << text;
  EXPECT_NE(text.find("rollout worker " + b.address), std::string::npos) << text;
}

TEST_F(WorkerPoolTest, FullQueuesAreTriedAgainUntilEverythingIsDone) {
  const GenerateRequest request = tiny_request(10, 2, 20);
  EngineConfig config = tiny_engine_config();
  config.max_queue = 3;
  TestWorker a(DType::kBF16, config), b(DType::kBF16, config);
  WorkerPoolConfig pool_config = small_config();
  pool_config.prompts_per_call = 1;
  pool_config.min_backoff_s = 0.001;
  pool_config.max_backoff_s = 0.01;
  expect_same(pool_of({&a, &b}, pool_config).generate(request), reference(request));
}

TEST_F(WorkerPoolTest, RefusesAMixOfNumericFamiliesNamingBoth) {
  TestWorker a(DType::kBF16), b(DType::kF32);
  const std::string text = error_text<ConfigError>([&] { pool_of({&a, &b}); });
  EXPECT_NE(text.find("rollout worker " + a.address + " is cpu-bf16-expanded"), std::string::npos)
      << text;
  EXPECT_NE(text.find("rollout worker " + b.address + " is cpu-f32-expanded"), std::string::npos)
      << text;
}

TEST_F(WorkerPoolTest, EveryWorkerOfAnotherVersionIsFailedPrecondition) {
  TestWorker a, b;
  WorkerPool pool = pool_of({&a, &b});
  GenerateRequest request = tiny_request(4, 2, 10);
  request.policy_version = 3;
  const std::string text = error_text<FailedPrecondition>([&] { pool.generate(request); });
  EXPECT_NE(text.find("policy_version is 3, the worker holds version 0"), std::string::npos);
}

TEST_F(WorkerPoolTest, RefusesCompletionsOfDifferentVersions) {
  TestWorker a, b;
  a.server->engine().set_policy_version(1);
  WorkerPool pool = pool_of({&a, &b});
  const std::string text =
      error_text<FailedPrecondition>([&] { pool.generate(tiny_request(8, 4, 30)); });
  EXPECT_NE(text.find("completion is of policy version"), std::string::npos) << text;
}

TEST_F(WorkerPoolTest, BadRequestsAreRefused) {
  TestWorker a;
  WorkerPool pool = pool_of({&a});
  GenerateRequest request = tiny_request(3, 2, 10);
  request.prompts[2].prompt_id = request.prompts[0].prompt_id;
  EXPECT_NE(error_text<std::invalid_argument>([&] {
              pool.generate(request);
            }).find("prompt_id 10 occurs twice"),
            std::string::npos);
  request = tiny_request(3, 2, 10);
  request.sampling.min_p = 2;
  EXPECT_NE(error_text<std::invalid_argument>([&] {
              pool.generate(request);
            }).find("sampling.min_p is 2"),
            std::string::npos);
}

TEST_F(WorkerPoolTest, AnErrorOfTheCallersCallbackEndsTheCall) {
  TestWorker a, b;
  WorkerPool pool = pool_of({&a, &b});
  EXPECT_THROW(
      pool.generate(tiny_request(8, 4, 60), [](const Completion&) { throw IoError("disk full"); }),
      IoError);
  EXPECT_EQ(pool.generate(tiny_request(2, 2, 5)).size(), 4u);
}

TEST_F(WorkerPoolTest, AnUnreachableWorkerIsAnRpcError) {
  TestWorker a, gone;
  gone.server.reset();
  WorkerPoolConfig config = small_config();
  config.status_timeout_s = 0.2;
  const std::string text = error_text<RpcError>([&] { pool_of({&a, &gone}, config); });
  EXPECT_NE(text.find("rollout worker " + gone.address), std::string::npos) << text;
}

}  // namespace
}  // namespace moerl
