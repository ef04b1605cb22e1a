#include "rollout/rollout_client.h"

#include <future>

#include "common/check.h"
#include "common/rpc/status.h"
#include "moerl/v1/rollout.grpc.pb.h"
#include "rollout/rollout_convert.h"

namespace moerl {
namespace {

std::exception_ptr to_exception(const grpc::Status& status, const std::string& what) {
  try {
    rpc::throw_if_error(status, what);
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

class StreamingCall final : public GenerateCall, public grpc::ClientReadReactor<v1::Completion> {
 public:
  StreamingCall(v1::RolloutService::Stub& stub, const GenerateRequest& request,
                std::chrono::milliseconds timeout, std::string what,
                std::function<void(Completion)> on_completion,
                std::function<void(std::exception_ptr)> on_done)
      : request_(to_proto(request)),
        what_(std::move(what)),
        on_completion_(std::move(on_completion)),
        on_done_(std::move(on_done)) {
    context_.set_deadline(std::chrono::system_clock::now() + timeout);
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  ~StreamingCall() override {
    context_.TryCancel();
    done_->get_future().wait();  // gRPC always ends a cancelled call
  }

  void cancel() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    try {
      on_completion_(from_proto(message_));
    } catch (...) {
      error_ = std::current_exception();
      context_.TryCancel();
      return;
    }
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<std::promise<void>> done = done_;  // outlives this object
    if (on_done_) on_done_(error_ ? error_ : to_exception(status, what_));
    done->set_value();
  }

 private:
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::Completion message_;
  const std::string what_;
  const std::function<void(Completion)> on_completion_;
  const std::function<void(std::exception_ptr)> on_done_;
  std::exception_ptr error_;  // of on_completion or of a malformed completion
  const std::shared_ptr<std::promise<void>> done_ = std::make_shared<std::promise<void>>();
};

}  // namespace

struct RolloutClient::Stub {
  std::unique_ptr<v1::RolloutService::Stub> service;
};

RolloutClient::RolloutClient(std::shared_ptr<grpc::Channel> channel, std::string name)
    : stub_(std::make_unique<Stub>()), name_(std::move(name)) {
  stub_->service = v1::RolloutService::NewStub(std::move(channel));
}

RolloutClient::~RolloutClient() = default;

std::unique_ptr<GenerateCall> RolloutClient::generate_async(
    const GenerateRequest& request, std::chrono::milliseconds timeout,
    std::function<void(Completion)> on_completion,
    std::function<void(std::exception_ptr)> on_done) const {
  return std::make_unique<StreamingCall>(*stub_->service, request, timeout, name_ + ": Generate",
                                         std::move(on_completion), std::move(on_done));
}

void RolloutClient::generate(const GenerateRequest& request, std::chrono::milliseconds timeout,
                             const std::function<void(Completion)>& on_completion) const {
  std::promise<void> ended;
  const auto call =
      generate_async(request, timeout, on_completion, [&ended](std::exception_ptr error) {
        if (error)
          ended.set_exception(error);
        else
          ended.set_value();
      });
  ended.get_future().get();
}

WorkerStatus RolloutClient::status(std::chrono::milliseconds timeout, bool wait_for_ready) const {
  grpc::ClientContext context;
  context.set_wait_for_ready(wait_for_ready);
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  v1::GetStatusResponse response;
  rpc::throw_if_error(stub_->service->GetStatus(&context, {}, &response), name_ + ": GetStatus");
  return {.policy_version = response.policy_version(),
          .numeric_family = response.numeric_family(),
          .weights_hash = response.weights_hash(),
          .queued_sequences = response.queued_sequences(),
          .running_sequences = response.running_sequences(),
          .kv_blocks_total = response.kv_blocks_total(),
          .kv_blocks_free = response.kv_blocks_free()};
}

}  // namespace moerl
