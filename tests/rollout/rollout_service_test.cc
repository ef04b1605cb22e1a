#include "rollout/rollout_service.h"

#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "common/error.h"
#include "rollout/rollout_client.h"
#include "rollout/rollout_server.h"
#include "tests/rollout/tiny_model.h"
#include "tests/testing/freezing_proxy.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::CompletionMap;
using testing::error_text;
using testing::expect_empty;
using testing::expect_same_bits;
using testing::tiny_engine_config;
using testing::tiny_request;
using testing::TinyModel;

class RolloutServiceTest : public ::testing::Test {
 protected:
  void serve(EngineConfig config = tiny_engine_config()) {
    server_ = std::make_unique<RolloutServer>(
        tiny_.model, RolloutServerConfig{.engine = config, .address = "127.0.0.1:0"}, tiny_.ctx);
  }
  RolloutClient in_process() { return {server_->in_process_channel(), "worker A"}; }
  RolloutClient loopback() {
    return {rpc::connect("127.0.0.1:" + std::to_string(server_->port())), "worker B"};
  }
  static CompletionMap generate(const RolloutClient& client, const GenerateRequest& request) {
    CompletionMap completions;
    client.generate(request, 60s, [&](Completion c) {
      const auto key = std::pair(c.prompt_id, c.sample_index);
      EXPECT_TRUE(completions.emplace(key, std::move(c)).second);
    });
    EXPECT_EQ(static_cast<int64_t>(completions.size()), request.num_sequences());
    return completions;
  }
  /// Steps end some time after the client has heard of the end; this waits for the engine.
  void expect_engine_empty() {
    server_->engine().with_exclusive_weights([] {});
    expect_empty(server_->engine());
  }

  static int64_t unfinished(const Engine& engine) {
    const EngineStatus status = engine.status();
    return status.queued_sequences + status.running_sequences;
  }
  /// Calls arrive on gRPC's threads.
  static void wait_for_sequences(const Engine& engine) {
    while (unfinished(engine) == 0) std::this_thread::yield();
  }

  TinyModel tiny_;
  std::unique_ptr<RolloutServer> server_;
};

TEST_F(RolloutServiceTest, InProcessAndLoopbackEqualTheEngineBitForBit) {
  const GenerateRequest request = tiny_request(4, 3, 30);
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx);
  const CompletionMap reference = testing::generate(engine, request);
  serve();
  expect_same_bits(generate(in_process(), request), reference);
  expect_same_bits(generate(loopback(), request), reference);
  expect_same_bits(generate(loopback(), request), reference);  // repeating is safe
  expect_engine_empty();
}

TEST_F(RolloutServiceTest, StreamsACompletionBeforeTheOthersHaveFinished) {
  // Without its thread the engine moves only as far as this test lets it.
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx);
  RolloutService service(engine);
  rpc::Server server({&service}, "");
  RolloutClient client(server.in_process_channel(), "worker");
  std::promise<void> first;
  std::atomic<int> arrived{0};
  const auto call = client.generate_async(
      tiny_request(1, 8, 400), 60s,
      [&](const Completion&) {
        if (arrived++ == 0) first.set_value();
      },
      nullptr);
  wait_for_sequences(engine);
  while (unfinished(engine) == 8) engine.step();
  ASSERT_EQ(first.get_future().wait_for(60s), std::future_status::ready);
  EXPECT_GT(engine.status().running_sequences, 0);
  call->cancel();
  while (unfinished(engine) > 0) engine.step();
  expect_empty(engine);
}

TEST_F(RolloutServiceTest, AnswersErrorsWithTheRightStatusAndNamesTheWorker) {
  EngineConfig config = tiny_engine_config();
  config.max_queue = 10;
  serve(config);
  const RolloutClient client = loopback();
  GenerateRequest request = tiny_request(1, 1, 4);
  request.sampling.top_p = 2;
  EXPECT_EQ(error_text<std::invalid_argument>([&] { generate(client, request); }),
            "worker B: Generate: sampling.top_p is 2, expected in (0, 1]");
  request = tiny_request(1, 1, 4);
  request.policy_version = 5;
  EXPECT_EQ(error_text<FailedPrecondition>([&] { generate(client, request); }),
            "worker B: Generate: policy_version is 5, the worker holds version 0");
  EXPECT_NE(error_text<std::invalid_argument>([&] {
              generate(client, tiny_request(1, 11, 4));
            }).find("expected at most max_queue = 10"),
            std::string::npos);
  expect_engine_empty();
}

TEST_F(RolloutServiceTest, AFullQueueIsResourceExhausted) {
  EngineConfig config = tiny_engine_config();
  config.max_queue = 10;
  Engine engine(tiny_.model, config, tiny_.ctx);
  RolloutService service(engine);
  rpc::Server server({&service}, "");
  RolloutClient client(server.in_process_channel(), "worker");
  engine.submit(tiny_request(1, 8, 4), {});
  EXPECT_NE(error_text<ResourceExhausted>([&] {
              generate(client, tiny_request(1, 3, 4));
            }).find("max_queue is 10"),
            std::string::npos);
}

TEST_F(RolloutServiceTest, CancellingACallStopsItsSequences) {
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx);
  RolloutService service(engine);
  rpc::Server server({&service}, "127.0.0.1:0");
  RolloutClient client(rpc::connect("127.0.0.1:" + std::to_string(server.port())), "worker");
  GenerateRequest request = tiny_request(4, 4, 440);
  request.sampling.stop_token_ids.clear();
  std::promise<std::exception_ptr> ended;
  std::atomic<int> arrived{0};
  const auto call = client.generate_async(
      request, 60s, [&](const Completion&) { ++arrived; },
      [&](std::exception_ptr e) { ended.set_value(e); });
  wait_for_sequences(engine);
  for (int i = 0; i < 5; ++i) engine.step();
  EXPECT_GT(engine.status().running_sequences, 0);
  call->cancel();
  EXPECT_THROW(std::rethrow_exception(ended.get_future().get()), Cancelled);
  // The server hears of it on a thread of its own; 440 tokens would take more steps than these.
  std::promise<void> never;
  const std::future<void> pause = never.get_future();
  for (int i = 0; i < 400 && unfinished(engine) > 0; ++i) {
    pause.wait_for(2ms);
    engine.step();
  }
  expect_empty(engine);
  EXPECT_EQ(arrived, 0);
}

TEST_F(RolloutServiceTest, ThePassedDeadlineEndsCallAndSequences) {
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx);
  {
    RolloutService service(engine);
    rpc::Server server({&service}, "");
    RolloutClient client(server.in_process_channel(), "worker");
    const std::string text = error_text<RpcError>(
        [&] { client.generate(tiny_request(1, 2, 4), 20ms, [](const Completion&) {}); });
    EXPECT_EQ(text.rfind("worker: Generate: ", 0), 0u) << text;
    engine.start();
  }
  expect_empty(engine);
}

TEST_F(RolloutServiceTest, ADeadWorkerIsAnRpcErrorThatNamesIt) {
  serve();
  const RolloutClient client = loopback();
  server_.reset();
  const std::string text = error_text<RpcError>([&] { generate(client, tiny_request(1, 1, 4)); });
  EXPECT_EQ(text.rfind("worker B: Generate: ", 0), 0u) << text;
}

TEST_F(RolloutServiceTest, APeerThatFallsSilentIsGivenUpByBothSides) {
  Engine engine(tiny_.model, tiny_engine_config(), tiny_.ctx);
  RolloutService service(engine);
  const rpc::KeepAlive keep_alive = {.period_ms = 600, .timeout_ms = 300};
  rpc::Server server({&service}, "127.0.0.1:0", keep_alive);
  // A call that was not given up ends only while the engine moves, and the server waits for it.
  struct MoveOn {
    Engine& engine;
    ~MoveOn() { engine.start(); }
  } const move_on{engine};
  testing::FreezingProxy proxy(server.port());
  RolloutClient client(rpc::connect(proxy.address(), keep_alive), "worker B");
  std::promise<std::exception_ptr> ended;
  const auto call = client.generate_async(
      tiny_request(2, 2, 440), 600s, [](const Completion&) {},
      [&](std::exception_ptr e) { ended.set_value(e); });
  wait_for_sequences(engine);
  proxy.freeze();
  std::future<std::exception_ptr> error = ended.get_future();
  ASSERT_EQ(error.wait_for(60s), std::future_status::ready);
  const std::string text = error_text<RpcError>([&] { std::rethrow_exception(error.get()); });
  EXPECT_EQ(text.rfind("worker B: Generate: ", 0), 0u) << text;
  // The engine moves only when told to, so the sequences have not come to their own end.
  std::promise<void> never;
  const std::future<void> pause = never.get_future();
  for (int i = 0; i < 3000 && unfinished(engine) > 0; ++i) {
    pause.wait_for(10ms);
    if (i % 100 == 0) engine.step();
  }
  expect_empty(engine);
}

TEST_F(RolloutServiceTest, StatusTellsWhatTheWorkerIsAndHolds) {
  serve();
  server_->engine().set_policy_version(4);
  const WorkerStatus status = loopback().status(10s);
  EXPECT_EQ(status.policy_version, 4);
  EXPECT_EQ(status.numeric_family, "cpu-bf16-expanded");
  EXPECT_EQ(status.weights_hash, 0u);
  EXPECT_EQ(status.queued_sequences, 0);
  EXPECT_EQ(status.running_sequences, 0);
  EXPECT_EQ(status.kv_blocks_total, 256);
  EXPECT_EQ(status.kv_blocks_free, 256);
}

TEST_F(RolloutServiceTest, HealthServiceAnswersServing) {
  serve();
  grpc::GenericStub stub(rpc::connect("127.0.0.1:" + std::to_string(server_->port())));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 10s);
  const grpc::ByteBuffer request(nullptr, 0);  // grpc.health.v1.HealthCheckRequest{}
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  ASSERT_TRUE(status.ok()) << status.error_message();
  grpc::Slice slice;
  ASSERT_TRUE(response.DumpToSingleSlice(&slice).ok());
  EXPECT_EQ(std::string(slice.begin(), slice.end()), "\x08\x01");  // status: SERVING
}

}  // namespace
}  // namespace moerl
