#include "rollout/weights/weights_service.h"

#include <gtest/gtest.h>

#include <future>

#include "common/error.h"
#include "common/rpc/server.h"
#include "policy/weights_io.h"
#include "rollout/rollout_client.h"
#include "rollout/rollout_server.h"
#include "rollout/weights/weights_client.h"
#include "rollout/weights/weights_convert.h"
#include "tests/rollout/tiny_model.h"
#include "tests/testing/same_bits.h"

namespace moerl {
namespace {

using namespace std::chrono_literals;
using testing::CompletionMap;
using testing::error_text;
using testing::expect_same_bits;
using testing::tiny_engine_config;
using testing::tiny_request;
using testing::TinyModel;

using Messages = std::vector<v1::UpdateWeightsRequest>;

class WeightsServiceTest : public ::testing::Test {
 protected:
  WeightsServiceTest()
      : trainer_(DType::kBF16, "expanded", 1, /*seed=*/8),
        server_(worker_.model,
                {.engine = tiny_engine_config(), .address = "127.0.0.1:0", .accepts_weights = true},
                worker_.ctx),
        channel_(rpc::connect("127.0.0.1:" + std::to_string(server_.port()))) {}

  static CompletionMap sample(TinyModel& tiny) {
    Engine engine(tiny.model, tiny_engine_config(), tiny.ctx);
    return testing::generate(engine, tiny_request(3, 2, 20));
  }
  CompletionMap sample_worker() { return sample_worker(channel_); }
  static CompletionMap sample_worker(const std::shared_ptr<grpc::Channel>& channel) {
    CompletionMap completions;
    RolloutClient(channel, "worker").generate(tiny_request(3, 2, 20), 60s, [&](Completion c) {
      const auto key = std::pair(c.prompt_id, c.sample_index);
      completions.emplace(key, std::move(c));
    });
    return completions;
  }
  /// A whole, valid update, to be spoilt.
  Messages messages(int64_t version = 5) {
    const std::vector<uint64_t> hashes = weights_hashes(trainer_.model);
    Messages all = {weights_header(trainer_.model, version, hashes)};
    const auto parameters = std::as_const(trainer_.model).parameters();
    for (size_t i = 0; i < parameters.size(); ++i)
      all.push_back(weights_chunk(*parameters[i], 0, hashes[i]));
    return all;
  }
  grpc::Status send(const Messages& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 60s);
    v1::UpdateWeightsResponse response;
    const auto writer = v1::WeightsService::NewStub(channel_)->UpdateWeights(&context, &response);
    for (const v1::UpdateWeightsRequest& message : messages)
      if (!writer->Write(message)) break;
    writer->WritesDone();
    return writer->Finish();
  }
  /// The update is refused for the reason, and the worker goes on with the weights it had.
  void expect_refused(const Messages& messages, grpc::StatusCode code, const std::string& reason) {
    const grpc::Status status = send(messages);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_NE(status.error_message().find(reason), std::string::npos) << status.error_message();
    EXPECT_EQ(server_.engine().status().policy_version, 0);
    TinyModel old;
    expect_same_bits(sample_worker(), sample(old));
  }

  TinyModel worker_, trainer_;
  RolloutServer server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(WeightsServiceTest, TheWorkerSamplesFromTheNewWeightsBitForBit) {
  const CompletionMap before = sample_worker();
  const uint64_t hash = WeightsClient(channel_, "worker").update(trainer_.model, 5, 60s);
  const CompletionMap after = sample_worker(), expected = sample(trainer_);
  expect_same_bits(after, expected);
  EXPECT_NE(after.at({10, 0}).token_ids, before.at({10, 0}).token_ids);
  EXPECT_EQ(after.at({10, 0}).policy_version, 5);
  const WorkerStatus status = RolloutClient(channel_, "worker").status(10s);
  EXPECT_EQ(status.policy_version, 5);
  EXPECT_EQ(status.weights_hash, hash);
  EXPECT_EQ(hash, weights_hash(trainer_.model));
}

TEST_F(WeightsServiceTest, AWorkerWithoutMastersSamplesTheSameBits) {
  ExecContext ctx(1);
  Transformer model(testing::tiny_config(), DType::kBF16, Masters::kDropped);
  RolloutServer server(model,
                       {.engine = tiny_engine_config(),
                        .accepts_weights = true,
                        .policy_version = kNoWeights},
                       ctx);
  const auto channel = server.in_process_channel();
  EXPECT_THROW(sample_worker(channel), FailedPrecondition);
  TinyModel other(DType::kBF16, "expanded", 1, /*seed=*/9);
  for (TinyModel* source : {&trainer_, &other}) {
    const uint64_t hash = WeightsClient(channel, "worker").update(source->model, 5, 60s);
    EXPECT_EQ(hash, weights_hash(source->model));
    EXPECT_EQ(server.engine().status().weights_hash, hash);
    expect_same_bits(sample_worker(channel), sample(*source));
  }
  EXPECT_INVALID_ARGUMENT(WeightsClient(channel_, "worker").update(model, 6, 60s),
                          "sending weights: the model was made for inference");
}

TEST_F(WeightsServiceTest, AnUpdateMayBeRepeated) {
  const WeightsClient client(channel_, "worker");
  const uint64_t hash = client.update(trainer_.model, 5, 60s);
  EXPECT_EQ(client.update(trainer_.model, 5, 60s), hash);
  EXPECT_EQ(update_all({&client}, trainer_.model, 6, 60s).at(0), nullptr);
  EXPECT_EQ(server_.engine().status().policy_version, 6);
}

TEST_F(WeightsServiceTest, TensorsMayComeInAnyOrderAndInManyChunks) {
  Messages all = messages();
  std::reverse(all.begin() + 1, all.end());
  Messages split = {all[0]};
  for (size_t i = 1; i < all.size(); ++i) {
    const v1::TensorChunk& whole = all[i].chunk();
    for (size_t at = 0; at < whole.data().size(); at += 999) {
      v1::UpdateWeightsRequest part = all[i];
      part.mutable_chunk()->set_offset(static_cast<int64_t>(at));
      part.mutable_chunk()->set_data(whole.data().substr(at, 999));
      split.push_back(part);
    }
  }
  const grpc::Status status = send(split);
  EXPECT_TRUE(status.ok()) << status.error_message();
  expect_same_bits(sample_worker(), sample(trainer_));
}

TEST_F(WeightsServiceTest, RunningGenerationsFinishOnTheOldWeights) {
  const GenerateRequest request = tiny_request(4, 8, 60);
  TinyModel old, other;
  Engine reference(old.model, tiny_engine_config(), old.ctx);
  const CompletionMap expected = testing::generate(reference, request);
  // Without its thread the engine is in the midst of a request when the weights come.
  Engine engine(other.model, tiny_engine_config(), other.ctx);
  WeightsService service(other.model, engine, other.ctx);
  rpc::Server server({&service}, "");
  CompletionMap got;
  engine.submit(request, {.on_completion = [&](Completion c) {
                  const auto key = std::pair(c.prompt_id, c.sample_index);
                  got.emplace(key, std::move(c));
                }});
  for (int i = 0; i < 5; ++i) engine.step();
  EXPECT_GT(engine.status().running_sequences, 0);
  WeightsClient(server.in_process_channel(), "worker").update(trainer_.model, 5, 60s);
  // Asked first: the engine's lock orders this thread behind the service's, also where a sanitizer
  // does not see those of gRPC.
  EXPECT_EQ(engine.status().policy_version, 5);
  expect_same_bits(got, expected);
  for (const auto& [key, completion] : got) EXPECT_EQ(completion.policy_version, 0);
  expect_same_bits(testing::generate(engine, request), [&] {
    Engine fresh(trainer_.model, tiny_engine_config(), trainer_.ctx);
    return testing::generate(fresh, request);
  }());
}

TEST_F(WeightsServiceTest, RefusesADamagedChunk) {
  Messages all = messages();
  (*all[3].mutable_chunk()->mutable_data())[17] ^= 1;
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT,
                 "tensor " + all[3].chunk().name() + " arrived with hash ");
}

TEST_F(WeightsServiceTest, RefusesAMissingTensor) {
  Messages all = messages();
  const std::string name = all[4].chunk().name();
  all.erase(all.begin() + 4);
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT, "tensor " + name + " is missing");
}

TEST_F(WeightsServiceTest, RefusesAnIncompleteTensor) {
  Messages all = messages();
  std::string* data = all[4].mutable_chunk()->mutable_data();
  data->resize(data->size() - 4);
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT,
                 "tensor " + all[4].chunk().name() + " is incomplete");
}

TEST_F(WeightsServiceTest, RefusesATensorSentTwice) {
  Messages all = messages();
  all.push_back(all[2]);
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT, "chunk starts at byte 0");
}

TEST_F(WeightsServiceTest, RefusesAnUnknownTensor) {
  Messages all = messages();
  all[2].mutable_chunk()->set_name("lm_tail.weight");
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT,
                 "tensor lm_tail.weight is unknown to the model");
}

TEST_F(WeightsServiceTest, RefusesAnotherShape) {
  Messages all = messages();
  all[1].mutable_chunk()->set_shape(0, 3);
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT, " has shape [3");
}

TEST_F(WeightsServiceTest, RefusesAWrongCombinedHash) {
  Messages all = messages();
  all[0].mutable_header()->set_weights_hash(all[0].header().weights_hash() + 1);
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT, "weights_hash is ");
}

TEST_F(WeightsServiceTest, RefusesAnotherNumericFamily) {
  Messages all = messages();
  all[0].mutable_header()->set_numeric_family("cuda-sm90-bf16-expanded");
  expect_refused(all, grpc::StatusCode::FAILED_PRECONDITION,
                 "numeric_family is cuda-sm90-bf16-expanded, the worker's is cpu-bf16-expanded");
}

TEST_F(WeightsServiceTest, RefusesAnotherModel) {
  Messages all = messages();
  ModelConfig other = testing::tiny_config();
  other.rope_theta = 5000;
  all[0].mutable_header()->set_model_config_json(other.to_json(DType::kBF16));
  expect_refused(all, grpc::StatusCode::FAILED_PRECONDITION,
                 "model_config_json describes another model");
}

TEST_F(WeightsServiceTest, RefusesAStreamWithoutHeader) {
  Messages all = messages();
  all.erase(all.begin());
  expect_refused(all, grpc::StatusCode::INVALID_ARGUMENT, "the first message is no header");
  expect_refused({}, grpc::StatusCode::INVALID_ARGUMENT, "the first message is no header");
}

TEST_F(WeightsServiceTest, AnEmbeddedWorkerTakesNoWeights) {
  RolloutServer embedded(worker_.model, {.engine = tiny_engine_config()}, worker_.ctx);
  const std::string text = error_text<RpcError>([&] {
    WeightsClient(embedded.in_process_channel(), "embedded").update(trainer_.model, 5, 60s);
  });
  EXPECT_EQ(text.rfind("embedded: UpdateWeights", 0), 0u) << text;
}

}  // namespace
}  // namespace moerl
