#include "reward/score_stream_client.h"

#include <charconv>
#include <deque>
#include <mutex>

#include "common/check.h"
#include "common/rpc/status.h"
#include "reward/reward_convert.h"

namespace moerl::reward {
namespace {

bool is_retryable(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::CANCELLED:  // the server shuts down
    case grpc::StatusCode::UNKNOWN:    // the connection broke within a message
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return true;
    default:
      return false;
  }
}

std::exception_ptr to_exception(const grpc::Status& status, const std::string& what) {
  try {
    rpc::throw_if_error(status, what);
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

class Stream final : public ScoreStreamClient,
                     public grpc::ClientBidiReactor<v1::ScoreItem, v1::Verdict>,
                     public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::string server, Events events)
      : server_(std::move(server)), events_(std::move(events)) {}

  void start(v1::RewardService::Stub& stub) {
    self_ = shared_from_this();
    stub.async()->ScoreStream(context_.get(), this);
    // send() starts writes outside of reactions; the hold keeps OnDone away until reading ends.
    AddHold();
    StartRead(&verdict_);
    StartCall();
  }

  bool send(const ScoreItem& item) override {
    v1::ScoreItem message;
    to_proto(item, &message);
    const std::lock_guard lock(mutex_);
    if (is_over_) return false;
    items_.push_back(std::move(message));
    write_next();
    return true;
  }

  void cancel() override {
    const std::lock_guard lock(mutex_);
    if (context_) context_->TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      std::optional<Verdict> verdict;
      std::string reason;
      try {
        verdict = from_proto(verdict_);
      } catch (const std::invalid_argument& error) {
        reason = error.what();
      }
      if (verdict)
        events_.on_verdict(std::move(*verdict));
      else
        events_.on_bad_verdict(verdict_.id(), concat("reward server ", server_, ": ", reason));
      StartRead(&verdict_);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    RemoveHold();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    is_writing_ = false;
    items_.pop_front();
    // A failed write ends the call; the reason comes with OnDone.
    if (ok && !is_over_) write_next();
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<Stream> keep_alive = std::move(self_);
    const std::string what = concat("reward server ", server_, ": ScoreStream");
    StreamEnd end;
    if (status.ok()) {
      end.error =
          to_exception({grpc::StatusCode::UNAVAILABLE, "the server closed the stream"}, what);
      end.is_retryable = true;
    } else {
      end.error = to_exception(status, what);
      end.is_retryable = is_retryable(status.error_code());
      end.is_busy = status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
      if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) end.refused_id = refused_id();
    }
    {
      // The context holds the channel. A channel whose last reference goes on a thread of gRPC
      // makes that thread wait for itself, so it must be free of this call before on_end.
      const std::lock_guard lock(mutex_);
      context_.reset();
    }
    events_.on_end(std::move(end));
  }

 private:
  void write_next() {
    if (is_writing_ || items_.empty()) return;
    is_writing_ = true;
    StartWrite(&items_.front());
  }

  std::optional<uint64_t> refused_id() const {
    const auto& metadata = context_->GetServerTrailingMetadata();
    const auto it = metadata.find(kRefusedItemKey);
    if (it == metadata.end()) return std::nullopt;
    uint64_t id = 0;
    const auto [rest, error] = std::from_chars(it->second.begin(), it->second.end(), id);
    if (error != std::errc() || rest != it->second.end()) return std::nullopt;
    return id;
  }

  const std::string server_;
  const Events events_;
  std::shared_ptr<Stream> self_;
  v1::Verdict verdict_;

  std::mutex mutex_;  // guards what follows
  std::unique_ptr<grpc::ClientContext> context_ = std::make_unique<grpc::ClientContext>();
  std::deque<v1::ScoreItem> items_;  // to be written; a deque keeps the front in place
  bool is_writing_ = false, is_over_ = false;
};

}  // namespace

std::shared_ptr<ScoreStreamClient> ScoreStreamClient::open(v1::RewardService::Stub& stub,
                                                           std::string server, Events events) {
  auto stream = std::make_shared<Stream>(std::move(server), std::move(events));
  stream->start(stub);
  return stream;
}

}  // namespace moerl::reward
