#include "rollout/rollout_service.h"

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "common/rpc/status.h"
#include "rollout/rollout_convert.h"

namespace moerl {
namespace {

/// Streams one request's completions. The engine's thread puts them into a queue, gRPC's threads
/// write them one after the other. Lives until gRPC and the engine have both let go.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::Completion>,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  explicit GenerateReactor(Engine& engine) : engine_(engine) {}

  void start(const v1::GenerateRequest& request) {
    self_ = shared_from_this();
    try {
      const uint64_t id = engine_.submit(
          from_proto(request),
          {.on_completion =
               [reactor = self_](const Completion& completion) {
                 reactor->enqueue(to_proto(completion));
               },
           .on_done = [reactor = self_](
                          std::exception_ptr error) { reactor->end(rpc::to_grpc_status(error)); }});
      std::unique_lock lock(mutex_);
      id_ = id;
      if (cancelled_) engine_.cancel(id);
    } catch (...) {
      Finish(rpc::to_grpc_status(std::current_exception()));
    }
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    queue_.pop_front();
    is_writing_ = false;
    if (!ok) {  // the client is gone; OnCancel stops the sequences
      is_broken_ = true;
      queue_.clear();
    }
    advance(lock);
  }

  void OnCancel() override {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (id_) engine_.cancel(*id_);
  }

  void OnDone() override { self_.reset(); }

 private:
  void enqueue(v1::Completion message) {
    std::unique_lock lock(mutex_);
    if (is_broken_) return;
    queue_.push_back(std::move(message));
    advance(lock);
  }

  void end(grpc::Status status) {
    std::unique_lock lock(mutex_);
    status_ = std::move(status);
    advance(lock);
  }

  /// Starts the next write, or finishes. Nothing but the lock may be touched after it.
  void advance(std::unique_lock<std::mutex>& lock) {
    if (is_writing_) return;
    if (!queue_.empty()) {
      is_writing_ = true;
      StartWrite(&queue_.front());
    } else if (status_) {
      const grpc::Status status = *status_;
      lock.unlock();
      Finish(status);
    }
  }

  Engine& engine_;
  std::shared_ptr<GenerateReactor> self_;  // gRPC's hold
  std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<v1::Completion> queue_;
  std::optional<grpc::Status> status_;  // set: the engine has ended the request
  std::optional<uint64_t> id_;
  bool is_writing_ = false, is_broken_ = false, cancelled_ = false;
};

}  // namespace

RolloutService::RolloutService(Engine& engine)
    : engine_(engine), numeric_family_(Engine::numeric_family(engine.model())) {}

grpc::ServerWriteReactor<v1::Completion>* RolloutService::Generate(
    grpc::CallbackServerContext*, const v1::GenerateRequest* request) {
  const auto reactor = std::make_shared<GenerateReactor>(engine_);
  reactor->start(*request);
  return reactor.get();
}

grpc::ServerUnaryReactor* RolloutService::GetStatus(grpc::CallbackServerContext* context,
                                                    const v1::GetStatusRequest*,
                                                    v1::GetStatusResponse* response) {
  *response = to_proto(engine_.status(), numeric_family_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace moerl
