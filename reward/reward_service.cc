#include "reward/reward_service.h"

#include <deque>
#include <mutex>

#include "common/check.h"
#include "common/rpc/status.h"
#include "reward/reward_convert.h"

namespace moerl::reward {
namespace {

/// One Score call. The scorer's callback holds it alive beside gRPC, so a cancelled call ends at
/// once, whatever is still in work.
class ScoreReactor final : public grpc::ServerUnaryReactor,
                           public std::enable_shared_from_this<ScoreReactor> {
 public:
  void start(Scorer& scorer, const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    self_ = shared_from_this();
    response_ = response;
    try {
      std::vector<ScoreItem> items;
      for (const v1::ScoreItem& item : request.items()) items.push_back(from_proto(item));
      scorer.submit_batch(std::move(items), cancel_.get_token(),
                          [self = self_](std::exception_ptr error, std::vector<Verdict> verdicts) {
                            self->finish(rpc::to_grpc_status(error), verdicts);
                          });
    } catch (...) {
      finish(rpc::to_grpc_status(std::current_exception()), {});
    }
  }

  void OnCancel() override {
    cancel_.request_stop();
    finish(grpc::Status::CANCELLED, {});
  }
  void OnDone() override { self_.reset(); }

 private:
  void finish(const grpc::Status& status, const std::vector<Verdict>& verdicts) {
    const std::lock_guard lock(mutex_);
    if (is_finished_) return;
    is_finished_ = true;
    if (status.ok())
      for (const Verdict& verdict : verdicts) to_proto(verdict, response_->add_verdicts());
    Finish(status);
  }

  std::stop_source cancel_;
  std::shared_ptr<ScoreReactor> self_;
  v1::ScoreResponse* response_ = nullptr;
  std::mutex mutex_;
  bool is_finished_ = false;
};

/// One ScoreStream call. Reads an item, hands it to the scorer, writes each verdict when it comes.
/// The call ends when nothing is read, in work or to be written any more; when it is cancelled, at
/// once. The scorer's callbacks hold it alive beside gRPC.
class StreamReactor final : public grpc::ServerBidiReactor<v1::ScoreItem, v1::Verdict>,
                            public std::enable_shared_from_this<StreamReactor> {
 public:
  StreamReactor(Scorer& scorer, int max_items, grpc::CallbackServerContext* context)
      : scorer_(scorer), max_items_(max_items), context_(context) {}

  void start() {
    self_ = shared_from_this();
    const std::lock_guard lock(mutex_);
    read_next();
  }

  void OnReadDone(bool ok) override {
    const auto keep_alive = shared_from_this();
    const std::lock_guard lock(mutex_);
    is_reading_ = false;
    if (!ok)
      has_read_all_ = true;
    else if (status_.ok() && !is_broken_)
      submit(from_proto(item_));
    read_next();
    finish_if_over();
  }

  void OnWriteDone(bool ok) override {
    const auto keep_alive = shared_from_this();
    const std::lock_guard lock(mutex_);
    is_writing_ = false;
    if (!ok) break_off();
    if (!verdicts_.empty()) verdicts_.pop_front();
    write_next();
    finish_if_over();
  }

  void OnCancel() override {
    const auto keep_alive = shared_from_this();
    const std::lock_guard lock(mutex_);
    break_off();
    finish_if_over();
  }

  void OnDone() override { self_.reset(); }

 private:
  // All below: mutex_ is held.

  void break_off() {
    is_broken_ = true;
    cancel_.request_stop();
    // The front may be in the hands of gRPC; OnWriteDone drops it.
    while (verdicts_.size() > (is_writing_ ? 1u : 0u)) verdicts_.pop_back();
  }

  void read_next() {
    if (is_reading_ || has_read_all_ || is_broken_ || !status_.ok() || num_in_work_ >= max_items_)
      return;
    is_reading_ = true;
    StartRead(&item_);
  }

  void submit(ScoreItem item) {
    const uint64_t id = item.id;
    try {
      scorer_.submit(std::move(item), cancel_.get_token(),
                     [self = shared_from_this()](std::exception_ptr error, Verdict verdict) {
                       self->on_scored(error, verdict);
                     });
      ++num_in_work_;
    } catch (...) {
      status_ = rpc::to_grpc_status(std::current_exception());
      context_->AddTrailingMetadata(kRefusedItemKey, std::to_string(id));
    }
  }

  void write_next() {
    if (is_writing_ || is_broken_ || verdicts_.empty()) return;
    is_writing_ = true;
    StartWrite(&verdicts_.front());
  }

  void finish_if_over() {
    // After an error the read in flight is left to gRPC, which ends it when the call ends.
    const bool may_read = !has_read_all_ && status_.ok();
    const bool is_open = may_read || num_in_work_ > 0 || !verdicts_.empty();
    if (is_finished_ || is_writing_ || (is_open && !is_broken_)) return;
    is_finished_ = true;
    Finish(is_broken_ ? grpc::Status::CANCELLED : status_);
  }

  /// A thread of the scorer calls this, without the lock.
  void on_scored(std::exception_ptr error, const Verdict& verdict) {
    const std::lock_guard lock(mutex_);
    --num_in_work_;
    if (error && status_.ok() && !is_broken_) status_ = rpc::to_grpc_status(error);
    if (!error && !is_broken_) to_proto(verdict, &verdicts_.emplace_back());
    write_next();
    read_next();
    finish_if_over();
  }

  Scorer& scorer_;
  const int max_items_;
  grpc::CallbackServerContext* context_;
  std::stop_source cancel_;
  std::shared_ptr<StreamReactor> self_;

  std::mutex mutex_;
  v1::ScoreItem item_;
  std::deque<v1::Verdict> verdicts_;  // to be written; a deque keeps the front in place
  int num_in_work_ = 0;
  bool is_reading_ = false, is_writing_ = false;
  bool has_read_all_ = false, is_broken_ = false, is_finished_ = false;
  grpc::Status status_;
};

}  // namespace

RewardServiceImpl::RewardServiceImpl(Scorer& scorer, const RewardServiceConfig& config)
    : scorer_(scorer), config_(config) {
  check(config.max_stream_items >= 1, "RewardService: max_stream_items is ",
        config.max_stream_items, ", expected >= 1");
}

grpc::ServerUnaryReactor* RewardServiceImpl::Score(grpc::CallbackServerContext*,
                                                   const v1::ScoreRequest* request,
                                                   v1::ScoreResponse* response) {
  auto reactor = std::make_shared<ScoreReactor>();
  grpc::ServerUnaryReactor* const borrowed = reactor.get();
  reactor->start(scorer_, *request, response);
  return borrowed;
}

grpc::ServerBidiReactor<v1::ScoreItem, v1::Verdict>* RewardServiceImpl::ScoreStream(
    grpc::CallbackServerContext* context) {
  auto reactor = std::make_shared<StreamReactor>(scorer_, config_.max_stream_items, context);
  reactor->start();
  return reactor.get();
}

grpc::ServerUnaryReactor* RewardServiceImpl::ListVerifiers(grpc::CallbackServerContext* context,
                                                           const v1::ListVerifiersRequest*,
                                                           v1::ListVerifiersResponse* response) {
  for (const auto& verifier : scorer_.registry().list()) {
    v1::VerifierInfo* info = response->add_verifiers();
    info->set_name(std::string(verifier->name()));
    info->set_description(std::string(verifier->description()));
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace moerl::reward
