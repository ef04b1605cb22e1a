#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "common/error.h"
#include "common/rpc/server.h"
#include "reward/reward_client.h"
#include "reward/reward_convert.h"
#include "reward/reward_service.h"
#include "reward/utf8.h"
#include "tests/reward/test_verifiers.h"
#include "tests/testing/garbage_reward_server.h"

namespace moerl::reward {
namespace {

constexpr int kSoonMs = 20'000;

/// A scorer, its service and a server.
struct Host {
  explicit Host(std::shared_ptr<const Verifier> extra, const ScorerConfig& config = {},
                const std::string& address = "127.0.0.1:0",
                const RewardServiceConfig& service_config = {})
      : scorer(make_test_registry(std::move(extra)), config),
        service(scorer, service_config),
        server({&service}, address) {}
  ~Host() { server.shutdown(0); }

  std::string address() const { return "127.0.0.1:" + std::to_string(server.port()); }

  Scorer scorer;
  RewardServiceImpl service;
  rpc::Server server;
};

/// What RewardClient::submit calls back.
struct Answer {
  std::shared_ptr<std::promise<Verdict>> promise = std::make_shared<std::promise<Verdict>>();
  std::future<Verdict> future = promise->get_future();

  RewardClient::Callback callback() {
    return [promise = promise](std::exception_ptr error, Verdict verdict) {
      if (error)
        promise->set_exception(error);
      else
        promise->set_value(std::move(verdict));
    };
  }
};

class RewardWireTest : public ::testing::Test {
 protected:
  void TearDown() override { hanging_->release(); }
  std::shared_ptr<HangingVerifier> hanging_ = std::make_shared<HangingVerifier>();
};

std::chrono::system_clock::time_point soon() {
  return std::chrono::system_clock::now() + std::chrono::milliseconds(kSoonMs);
}

v1::ScoreItem proto_item(const ScoreItem& item) {
  v1::ScoreItem out;
  to_proto(item, &out);
  return out;
}

TEST(RewardConvertTest, KeepsEveryField) {
  const ScoreItem item{7,
                       "v",
                       {"r", "g", "{}", "d", "p", 4, {5, 6}, false, {{1, 2, true}, {-1, 3, false}}},
                       {{"a", "1"}, {"b", "2"}}};
  const ScoreItem back = from_proto(proto_item(item));
  EXPECT_EQ(back.id, 7u);
  EXPECT_EQ(back.verifier, "v");
  EXPECT_EQ(back.sample.response, "r");
  EXPECT_EQ(back.sample.ground_truth, "g");
  EXPECT_EQ(back.sample.extra_info_json, "{}");
  EXPECT_EQ(back.sample.data_source, "d");
  EXPECT_EQ(back.sample.prompt, "p");
  EXPECT_EQ(back.sample.num_tokens, 4);
  EXPECT_EQ(back.sample.token_ids, item.sample.token_ids);
  EXPECT_EQ(back.sample.is_correct, false);
  EXPECT_EQ(back.sample.group, item.sample.group);
  EXPECT_EQ(back.options, item.options);
  for (VerdictStatus status : kVerdictStatuses) {
    const Verdict verdict{3, 0.5, status, "e", {{"accuracy", 1}}, "why"};
    v1::Verdict message;
    to_proto(verdict, &message);
    EXPECT_EQ(from_proto(message), verdict);
  }
  EXPECT_THROW(from_proto(v1::Verdict()), std::invalid_argument);
}

TEST(RewardConvertTest, MakesTextValidUtf8) {
  EXPECT_EQ(to_valid_utf8("a\u00D7\u2212\U0001F600"), "a\u00D7\u2212\U0001F600");
  EXPECT_EQ(to_valid_utf8("a\xE2\x88"), "a\uFFFD\uFFFD");
  EXPECT_EQ(to_valid_utf8("\xFF"
                          "b"),
            "\uFFFD"
            "b");
  EXPECT_EQ(to_valid_utf8("\xC0\x80"), "\uFFFD\uFFFD");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  v1::ScoreItem message = proto_item({1, "v", {"cut \xE2\x88", "", "", "", ""}, {}});
  v1::ScoreItem parsed;
  EXPECT_TRUE(parsed.ParseFromString(message.SerializeAsString()));
}

TEST_F(RewardWireTest, ScoresABatchInProcess) {
  Host host(hanging_, {}, "");
  auto stub = v1::RewardService::NewStub(host.server.in_process_channel());
  v1::ScoreRequest request;
  *request.add_items() = proto_item(countdown_item(5, "(1+2)*3"));
  *request.add_items() = proto_item(countdown_item(6, "1+"));
  *request.add_items() = proto_item(hanging_item(7, "throw"));
  grpc::ClientContext context;
  context.set_deadline(soon());
  v1::ScoreResponse response;
  const grpc::Status status = stub->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.verdicts_size(), 3);
  EXPECT_EQ(response.verdicts(0).id(), 5u);
  EXPECT_EQ(response.verdicts(0).status(), v1::VERDICT_STATUS_CORRECT);
  EXPECT_DOUBLE_EQ(response.verdicts(0).score(), 1.1);
  EXPECT_EQ(response.verdicts(0).parts().at("accuracy"), 1);
  EXPECT_EQ(response.verdicts(1).status(), v1::VERDICT_STATUS_UNPARSABLE);
  EXPECT_EQ(response.verdicts(2).status(), v1::VERDICT_STATUS_INTERNAL_ERROR);
}

TEST_F(RewardWireTest, MapsErrorsToStatusCodes) {
  Host host(hanging_, {.num_threads = 1, .queue_capacity = 1}, "");
  auto stub = v1::RewardService::NewStub(host.server.in_process_channel());
  auto score = [&](std::vector<ScoreItem> items) {
    v1::ScoreRequest request;
    for (const ScoreItem& item : items) *request.add_items() = proto_item(item);
    grpc::ClientContext context;
    context.set_deadline(soon());
    v1::ScoreResponse response;
    return stub->Score(&context, request, &response);
  };
  const grpc::Status unknown = score({{1, "maths", {}, {}}});
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(unknown.error_message().find("unknown verifier 'maths'"), std::string::npos);
  EXPECT_EQ(score({{1, "gsm8k", {}, {{"method", "x"}}}}).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(score({hanging_item(1, ""), hanging_item(2, "")}).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(score({}).ok());
}

TEST_F(RewardWireTest, EndsACallAtItsDeadline) {
  Host host(hanging_, {.num_threads = 1}, "");
  auto stub = v1::RewardService::NewStub(host.server.in_process_channel());
  v1::ScoreRequest request;
  *request.add_items() = proto_item(hanging_item(1, "hang"));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  v1::ScoreResponse response;
  EXPECT_EQ(stub->Score(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  hanging_->release();
}

TEST_F(RewardWireTest, ACancelledCallDropsItsWaitingSamples) {
  Host host(hanging_, {.num_threads = 1}, "");
  auto stub = v1::RewardService::NewStub(host.server.in_process_channel());
  v1::ScoreRequest request;
  *request.add_items() = proto_item(hanging_item(1, "hang"));
  *request.add_items() = proto_item(hanging_item(2, "fine"));
  grpc::ClientContext context;
  context.set_deadline(soon());
  v1::ScoreResponse response;
  auto status =
      std::async(std::launch::async, [&] { return stub->Score(&context, request, &response); });
  hanging_->wait_until_begun(1);
  context.TryCancel();
  EXPECT_EQ(status.get().error_code(), grpc::StatusCode::CANCELLED);
  // It returns when the server, too, has ended the call; then the sample in the queue is dropped.
  host.server.shutdown(0);
  hanging_->release();
  while (host.scorer.stats().num_scored < 1 || host.scorer.stats().num_queued > 0)
    std::this_thread::yield();
  EXPECT_EQ(hanging_->num_begun(), 1);
}

TEST_F(RewardWireTest, ListsVerifiersAndReportsHealth) {
  Host host(hanging_);
  RewardClient client({host.address()});
  std::vector<std::string> names;
  for (const VerifierDescription& each : client.list_verifiers()) {
    names.push_back(each.name);
    EXPECT_FALSE(each.description.empty());
  }
  std::vector<std::string> registered;
  for (const auto& each : host.scorer.registry().list()) registered.emplace_back(each->name());
  EXPECT_EQ(names, registered);

  // HealthCheckRequest{} is empty; HealthCheckResponse{status: SERVING} is field 1, varint 1.
  grpc::GenericStub stub(rpc::connect(host.address()));
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(soon());
  const grpc::Slice empty("");
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                    grpc::ByteBuffer(&empty, 1), &queue);
  grpc::ByteBuffer response;
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, &queue);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  ASSERT_TRUE(status.ok()) << status.error_message();
  grpc::Slice bytes;
  ASSERT_TRUE(response.DumpToSingleSlice(&bytes).ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size()), "\x08\x01");
}

TEST_F(RewardWireTest, ClientScoresOverLoopbackAndInProcess) {
  Host host(hanging_, {.num_threads = 3});
  RewardClient loopback({host.address()});
  RewardClient in_process({{"in-process", host.server.in_process_channel()}});
  for (RewardClient* client : {&loopback, &in_process}) {
    std::vector<ScoreItem> items;
    for (uint64_t i = 0; i < 300; ++i)
      items.push_back(countdown_item(1000 + i, i % 3 == 0 ? "(1+2)*3" : "1+2+3"));
    const std::vector<Verdict> verdicts = client->score_batch(std::move(items));
    ASSERT_EQ(verdicts.size(), 300u);
    for (uint64_t i = 0; i < 300; ++i) {
      EXPECT_EQ(verdicts[i].id, 1000 + i);
      EXPECT_EQ(verdicts[i].status == VerdictStatus::kCorrect, i % 3 == 0);
    }
  }
  EXPECT_TRUE(loopback.score_batch({}).empty());
}

TEST_F(RewardWireTest, StreamsEachVerdictAsItIsKnown) {
  Host host(hanging_, {.num_threads = 2});
  RewardClient client({host.address()});
  Answer slow, quick;
  client.submit(hanging_item(1, "hang"), slow.callback());
  client.submit(hanging_item(2, "fine"), quick.callback());
  EXPECT_EQ(quick.future.get().id, 2u);
  EXPECT_EQ(slow.future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  hanging_->release();
  EXPECT_EQ(slow.future.get().status, VerdictStatus::kCorrect);
}

TEST_F(RewardWireTest, CutsAVerifierThatHangsOverTheWire) {
  Host host(hanging_, {.num_threads = 1, .deadline_ms = 30});
  RewardClient client({host.address()});
  const auto verdicts = client.score_batch({hanging_item(1, "hang"), hanging_item(2, "fine")});
  EXPECT_EQ(verdicts[0].status, VerdictStatus::kTimeout);
  EXPECT_EQ(verdicts[1].status, VerdictStatus::kCorrect);
}

TEST_F(RewardWireTest, ABadItemFailsAloneOnASharedStream) {
  Host host(hanging_, {.num_threads = 2});
  RewardClient client({host.address()}, {.retries = 0});
  std::vector<Answer> good(40);
  Answer bad;
  for (int i = 0; i < 20; ++i) client.submit(countdown_item(i, "(1+2)*3"), good[i].callback());
  client.submit({99, "maths", {}, {}}, bad.callback());
  for (int i = 20; i < 40; ++i) client.submit(countdown_item(i, "(1+2)*3"), good[i].callback());
  try {
    bad.future.get();
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(host.address()), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("unknown verifier 'maths'"), std::string::npos);
  }
  for (Answer& each : good) EXPECT_EQ(each.future.get().status, VerdictStatus::kCorrect);
}

TEST_F(RewardWireTest, AFastSenderWaitsInsteadOfFillingTheQueue) {
  Host host(hanging_, {.num_threads = 1, .queue_capacity = 4}, "127.0.0.1:0",
            {.max_stream_items = 4});
  RewardClient client({host.address()}, {.retries = 0});
  std::vector<ScoreItem> items;
  for (uint64_t i = 0; i < 500; ++i) items.push_back(countdown_item(i, "(1+2)*3"));
  EXPECT_EQ(client.score_batch(std::move(items)).size(), 500u);
}

TEST_F(RewardWireTest, AFullQueueIsTriedAgain) {
  Host host(hanging_, {.num_threads = 1, .queue_capacity = 1});
  RewardClient client({host.address()}, {.retries = 1000, .backoff_ms = 1, .max_backoff_ms = 2});
  std::vector<ScoreItem> items;
  for (uint64_t i = 0; i < 20; ++i) items.push_back(countdown_item(i, "(1+2)*3"));
  for (const Verdict& verdict : client.score_batch(std::move(items)))
    EXPECT_EQ(verdict.status, VerdictStatus::kCorrect);
}

TEST_F(RewardWireTest, FinishesAfterTheServerIsKilledAndRestarted) {
  auto host = std::make_unique<Host>(hanging_, ScorerConfig{.num_threads = 2, .deadline_ms = 200});
  const std::string address = host->address();
  RewardClient client({address}, {.retries = 1000, .backoff_ms = 5, .max_backoff_ms = 20});
  std::vector<Answer> answers(200);
  for (int i = 0; i < 100; ++i) client.submit(countdown_item(i, "(1+2)*3"), answers[i].callback());
  Answer hung;
  client.submit(hanging_item(500, "hang"), hung.callback());
  hanging_->wait_until_begun(1);
  host.reset();
  for (int i = 100; i < 200; ++i)
    client.submit(countdown_item(i, "(1+2)*3"), answers[i].callback());
  hanging_->release();
  host = std::make_unique<Host>(hanging_, ScorerConfig{}, address);
  for (int i = 0; i < 200; ++i) {
    const Verdict verdict = answers[i].future.get();
    EXPECT_EQ(verdict.id, static_cast<uint64_t>(i));
    EXPECT_EQ(verdict.status, VerdictStatus::kCorrect);
  }
  hung.future.get();
}

TEST_F(RewardWireTest, FailsOverToAServerThatLives) {
  Host alive(hanging_);
  std::string dead;
  dead = Host(hanging_).address();
  RewardClient client({dead, alive.address()}, {.retries = 3, .backoff_ms = 1});
  std::vector<ScoreItem> items;
  for (uint64_t i = 0; i < 50; ++i) items.push_back(countdown_item(i, "(1+2)*3"));
  for (const Verdict& verdict : client.score_batch(std::move(items)))
    EXPECT_EQ(verdict.status, VerdictStatus::kCorrect);
  EXPECT_EQ(alive.scorer.stats().num_scored, 50u);
  EXPECT_EQ(client.list_verifiers().size(), alive.scorer.registry().list().size());
}

TEST_F(RewardWireTest, NamesTheServerThatIsGone) {
  const std::string dead = Host(hanging_).address();
  RewardClient client({dead}, {.retries = 2, .backoff_ms = 1});
  try {
    client.score_batch({countdown_item(1, "1")});
    FAIL();
  } catch (const RpcError& error) {
    EXPECT_EQ(error.code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_NE(std::string(error.what()).find(dead), std::string::npos) << error.what();
  }
  EXPECT_THROW(client.list_verifiers(), RpcError);
}

TEST_F(RewardWireTest, EveryAttemptHasADeadline) {
  Host host(hanging_, {.num_threads = 1});
  RewardClient client({host.address()}, {.deadline_ms = 30, .retries = 1});
  try {
    client.score_batch({hanging_item(1, "hang")});
    FAIL();
  } catch (const RpcError& error) {
    EXPECT_EQ(error.code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_NE(std::string(error.what()).find(host.address()), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("attempt 2 of 2"), std::string::npos) << error.what();
  }
  hanging_->release();
}

TEST_F(RewardWireTest, ADestroyedClientEndsItsItems) {
  Host host(hanging_, {.num_threads = 1});
  Answer answer;
  {
    RewardClient client({host.address()});
    client.submit(hanging_item(1, "hang"), answer.callback());
    hanging_->wait_until_begun(1);
  }
  EXPECT_THROW(answer.future.get(), Cancelled);
  hanging_->release();
}

TEST_F(RewardWireTest, AnotherServerMakesUpForOneThatAnswersNonsense) {
  using moerl::testing::Garbage;
  for (Garbage garbage : {Garbage::kUnknownIds, Garbage::kNan, Garbage::kNoStatus, Garbage::kTooFew,
                          Garbage::kSilent}) {
    moerl::testing::GarbageRewardServer bad(garbage);
    Host good(hanging_, {.num_threads = 1});
    RewardClient client({bad.address(), good.address()},
                        {.deadline_ms = garbage == Garbage::kSilent ? 300 : kSoonMs,
                         .backoff_ms = 5,
                         .max_backoff_ms = 50});
    std::vector<ScoreItem> items;
    for (uint64_t i = 0; i < 100; ++i)
      items.push_back(countdown_item(i, i % 2 == 0 ? "(1+2)*3" : "1+2+3"));
    const std::vector<Verdict> verdicts = client.score_batch(std::move(items));
    for (uint64_t i = 0; i < 100; ++i)
      EXPECT_EQ(verdicts[i].score, i % 2 == 0 ? 1.1 : 0.1) << static_cast<int>(garbage);
    EXPECT_GE(bad.num_items(), 1);
  }
}

TEST_F(RewardWireTest, ASampleThatOnlyEarnsNonsenseIsUnscorable) {
  moerl::testing::GarbageRewardServer bad(moerl::testing::Garbage::kNan);
  RewardClient client({bad.address()}, {.backoff_ms = 1, .max_backoff_ms = 2});
  for (const Verdict& verdict :
       client.score_batch({countdown_item(7, "1"), countdown_item(8, "2")})) {
    EXPECT_EQ(verdict.status, VerdictStatus::kInternalError);
    EXPECT_NE(verdict.detail.find(bad.address()), std::string::npos) << verdict.detail;
    EXPECT_NE(verdict.detail.find("the score is nan"), std::string::npos) << verdict.detail;
  }
}

TEST_F(RewardWireTest, AServerThatIsFullIsWaitedForWithoutSpendingAttempts) {
  Host host(hanging_, {.num_threads = 1, .queue_capacity = 1});
  RewardClient client({host.address()}, {.retries = 0, .backoff_ms = 1, .max_backoff_ms = 2});
  std::vector<ScoreItem> items;
  for (uint64_t i = 0; i < 20; ++i) items.push_back(countdown_item(i, "(1+2)*3"));
  for (const Verdict& verdict : client.score_batch(std::move(items)))
    EXPECT_EQ(verdict.status, VerdictStatus::kCorrect);
}

TEST(RewardClientTest, RefusesABadConfig) {
  EXPECT_THROW(RewardClient(std::vector<std::string>{}), std::invalid_argument);
  EXPECT_THROW(RewardClient({"127.0.0.1:1"}, {.deadline_ms = 0}), std::invalid_argument);
  EXPECT_THROW(RewardClient({"127.0.0.1:1"}, {.retries = -1}), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::reward
