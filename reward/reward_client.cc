#include "reward/reward_client.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "common/check.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "moerl/v1/reward.grpc.pb.h"
#include "reward/score_stream_client.h"

namespace moerl::reward {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kNoServer = static_cast<size_t>(-1);

/// A server and how it has behaved.
struct Endpoint {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::RewardService::Stub> stub;
  uint64_t stream_id = 0;  // the stream that takes new items; 0: none is open
  int num_failures = 0;    // in a row
  int64_t num_in_flight = 0;
  Clock::time_point retry_at{};
};

/// A stream that has not ended.
struct OpenStream {
  std::shared_ptr<ScoreStreamClient> stream;
  size_t endpoint;
  std::unordered_set<uint64_t> items;  // sent on it, without a verdict
  std::unordered_set<uint64_t> late;   // sent on it, and given up on
  Clock::time_point last_heard{};
  std::string fault;  // what showed that the server is not to be believed; empty: nothing
};

/// An item without a verdict. It is in flight if stream_id is not 0, else it waits until `due`.
struct Pending {
  ScoreItem item;  // its id is the key on the wire
  uint64_t caller_id;
  RewardClient::Callback callback;
  int num_attempts = 0;
  int num_faults = 0;  // attempts that ended in a verdict that is none
  size_t last_endpoint = kNoServer;
  uint64_t stream_id = 0;
  Clock::time_point submitted_at{}, sent_at{};
  Clock::time_point due{};  // of the timer
};

/// A callback that is to be called when the lock is released.
struct Ending {
  RewardClient::Callback callback;
  std::exception_ptr error;
  Verdict verdict;
};

/// Attempts that may end in nonsense before the sample is given up as unscorable.
constexpr int kMaxFaults = 2;

void call(std::vector<Ending>& endings) {
  for (Ending& each : endings) each.callback(each.error, std::move(each.verdict));
}

}  // namespace

class RewardClient::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(std::vector<RewardServer> servers, const RewardClientConfig& config) : config_(config) {
    for (RewardServer& server : servers) {
      Endpoint& endpoint = endpoints_.emplace_back();
      endpoint.address = std::move(server.address);
      endpoint.stub = v1::RewardService::NewStub(server.channel);
      endpoint.channel = std::move(server.channel);
    }
  }

  void start() {
    timer_ = std::thread([this] { run_timer(); });
  }
  void submit(ScoreItem item, Callback callback);
  void shut_down();
  std::vector<VerifierDescription> list_verifiers();

 private:
  // Those with an `endings` parameter need the lock and leave callbacks to the caller.
  void dispatch(uint64_t id, Pending& pending);
  size_t choose_endpoint(size_t last) const;
  uint64_t open_stream(size_t endpoint);
  void set_timer(uint64_t id, Pending& pending, Clock::time_point due);
  void retry(uint64_t id, Pending& pending, std::exception_ptr error, std::vector<Ending>& endings);
  void end(uint64_t id, std::exception_ptr error, Verdict verdict, std::vector<Ending>& endings);
  void forget_attempt(Pending& pending, uint64_t id);
  void expire(uint64_t id, Pending& pending, std::vector<Ending>& endings);
  void on_verdict(uint64_t stream_id, Verdict verdict);
  void on_bad_verdict(uint64_t stream_id, uint64_t id, const std::string& reason);
  void distrust(OpenStream& stream, uint64_t id);
  void on_stream_end(uint64_t stream_id, const StreamEnd& end);
  void run_timer();
  /// How long an item waits in all while its server is busy with others.
  Clock::duration patience() const { return 10 * milliseconds(config_.deadline_ms); }

  const RewardClientConfig config_;
  std::mutex mutex_;  // guards what follows
  std::vector<Endpoint> endpoints_;
  std::unordered_map<uint64_t, Pending> pending_;
  std::unordered_map<uint64_t, OpenStream> streams_;
  std::set<std::pair<Clock::time_point, uint64_t>> timers_;
  uint64_t next_id_ = 1, next_stream_id_ = 1;
  size_t next_endpoint_ = 0;
  int num_live_streams_ = 0;  // those whose on_end has not returned
  bool is_stopping_ = false;
  std::condition_variable timers_changed_, streams_changed_;
  std::thread timer_;
};

void RewardClient::Core::submit(ScoreItem item, Callback callback) {
  std::unique_lock lock(mutex_);
  if (is_stopping_) {
    lock.unlock();
    return callback(std::make_exception_ptr(Cancelled("reward client: shut down")), {});
  }
  const uint64_t id = next_id_++;
  Pending& pending = pending_[id];
  pending.caller_id = item.id;
  pending.submitted_at = Clock::now();
  pending.item = std::move(item);
  pending.item.id = id;
  pending.callback = std::move(callback);
  dispatch(id, pending);
}

/// Of the servers that may be tried now, rather not `last`, that with the fewest items in flight,
/// the next in turn among equals; else the one that may be tried first.
size_t RewardClient::Core::choose_endpoint(size_t last) const {
  const Clock::time_point now = Clock::now();
  size_t best = kNoServer;
  auto is_better = [&](size_t a, size_t b) {
    const auto wait = [&](size_t i) { return std::max(endpoints_[i].retry_at, now); };
    if (wait(a) != wait(b)) return wait(a) < wait(b);
    if ((a == last) != (b == last)) return b == last;
    return endpoints_[a].num_in_flight < endpoints_[b].num_in_flight;
  };
  for (size_t i = 0; i < endpoints_.size(); ++i) {
    const size_t candidate = (next_endpoint_ + i) % endpoints_.size();
    if (best == kNoServer || is_better(candidate, best)) best = candidate;
  }
  return best;
}

void RewardClient::Core::set_timer(uint64_t id, Pending& pending, Clock::time_point due) {
  timers_.erase({pending.due, id});
  pending.due = due;
  timers_.insert({due, id});
  if (timers_.begin()->second == id) timers_changed_.notify_one();
}

void RewardClient::Core::dispatch(uint64_t id, Pending& pending) {
  const size_t chosen = choose_endpoint(pending.last_endpoint);
  Endpoint& endpoint = endpoints_[chosen];
  const Clock::time_point now = Clock::now();
  if (endpoint.retry_at > now) return set_timer(id, pending, endpoint.retry_at);

  next_endpoint_ = (chosen + 1) % endpoints_.size();
  if (endpoint.stream_id == 0) endpoint.stream_id = open_stream(chosen);
  if (!streams_.at(endpoint.stream_id).stream->send(pending.item)) {
    endpoint.stream_id = open_stream(chosen);
    // A stream that has just been opened and fails at once reports the item in on_stream_end.
    streams_.at(endpoint.stream_id).stream->send(pending.item);
  }
  pending.last_endpoint = chosen;
  pending.stream_id = endpoint.stream_id;
  pending.sent_at = now;
  ++pending.num_attempts;
  streams_.at(pending.stream_id).items.insert(id);
  ++endpoint.num_in_flight;
  set_timer(id, pending, now + milliseconds(config_.deadline_ms));
}

uint64_t RewardClient::Core::open_stream(size_t index) {
  const uint64_t id = next_stream_id_++;
  const auto self = shared_from_this();
  ScoreStreamClient::Events events;
  events.on_verdict = [self, id](Verdict verdict) { self->on_verdict(id, std::move(verdict)); };
  events.on_bad_verdict = [self, id](uint64_t item, const std::string& reason) {
    self->on_bad_verdict(id, item, reason);
  };
  events.on_end = [self, id](StreamEnd end) { self->on_stream_end(id, end); };
  Endpoint& endpoint = endpoints_[index];
  // gRPC's own pauses between connects grow to minutes; the pauses here are the client's.
  if (endpoint.num_failures > 0)
    grpc::experimental::ChannelResetConnectionBackoff(endpoint.channel.get());
  // Events of the new stream wait for mutex_, so they find it in streams_.
  auto stream = ScoreStreamClient::open(*endpoint.stub, endpoint.address, std::move(events));
  streams_[id] = {std::move(stream), index, {}, {}};
  ++num_live_streams_;
  return id;
}

void RewardClient::Core::end(uint64_t id, std::exception_ptr error, Verdict verdict,
                             std::vector<Ending>& endings) {
  const auto it = pending_.find(id);
  verdict.id = it->second.caller_id;
  timers_.erase({it->second.due, id});
  endings.push_back({std::move(it->second.callback), error, std::move(verdict)});
  pending_.erase(it);
}

void RewardClient::Core::retry(uint64_t id, Pending& pending, std::exception_ptr error,
                               std::vector<Ending>& endings) {
  pending.stream_id = 0;
  if (pending.num_attempts > config_.retries) return end(id, error, {}, endings);
  // The timer's thread sends it: a stream cannot be opened within another one's event.
  set_timer(id, pending, Clock::now());
}

void RewardClient::Core::on_verdict(uint64_t stream_id, Verdict verdict) {
  std::vector<Ending> endings;
  {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(stream_id);
    if (found == streams_.end()) return;
    OpenStream& stream = found->second;
    const uint64_t id = verdict.id;
    if (stream.items.erase(id) > 0) {
      --endpoints_[stream.endpoint].num_in_flight;
    } else if (stream.late.erase(id) == 0) {
      distrust(stream, id);
      return;
    }
    if (!stream.fault.empty()) return;
    stream.last_heard = Clock::now();
    endpoints_[stream.endpoint].num_failures = 0;
    // A late verdict of an earlier attempt is as good as any; one for an ended item is dropped.
    if (const auto it = pending_.find(id); it != pending_.end()) {
      forget_attempt(it->second, id);
      end(id, nullptr, std::move(verdict), endings);
    }
  }
  call(endings);
}

/// A server that answers what it was not asked cannot be believed in the rest either.
void RewardClient::Core::distrust(OpenStream& stream, uint64_t id) {
  stream.fault = concat("reward server ", endpoints_[stream.endpoint].address,
                        ": a verdict has the id ", id, ", which was not asked for");
  stream.stream->cancel();
}

/// Only the sample is to blame, or the server only for this one; another server may do better.
void RewardClient::Core::on_bad_verdict(uint64_t stream_id, uint64_t id,
                                        const std::string& reason) {
  std::vector<Ending> endings;
  {
    const std::lock_guard lock(mutex_);
    const auto found = streams_.find(stream_id);
    if (found == streams_.end()) return;
    OpenStream& stream = found->second;
    if (!stream.items.contains(id)) {
      if (stream.late.erase(id) == 0) distrust(stream, id);
      return;
    }
    Pending& pending = pending_.at(id);
    forget_attempt(pending, id);
    stream.late.erase(id);
    Endpoint& endpoint = endpoints_[stream.endpoint];
    endpoint.retry_at = Clock::now() + milliseconds(config_.backoff_ms);
    if (++pending.num_faults > kMaxFaults)
      end(id, nullptr, {.status = VerdictStatus::kInternalError, .detail = reason}, endings);
    else
      retry(id, pending, std::make_exception_ptr(RpcError(grpc::StatusCode::INTERNAL, reason)),
            endings);
  }
  call(endings);
}

/// The item is no longer waited for on its stream.
void RewardClient::Core::forget_attempt(Pending& pending, uint64_t id) {
  const auto stream = streams_.find(pending.stream_id);
  if (stream != streams_.end() && stream->second.items.erase(id) > 0) {
    stream->second.late.insert(id);
    --endpoints_[stream->second.endpoint].num_in_flight;
  }
  pending.stream_id = 0;
}

void RewardClient::Core::on_stream_end(uint64_t stream_id, const StreamEnd& stream_end) {
  std::vector<Ending> endings;
  {
    const std::lock_guard lock(mutex_);
    const auto node = streams_.extract(stream_id);
    OpenStream& stream = node.mapped();
    Endpoint& endpoint = endpoints_[stream.endpoint];
    if (endpoint.stream_id == stream_id) endpoint.stream_id = 0;
    if (!stream_end.refused_id) {
      const int64_t pause = int64_t{config_.backoff_ms} << std::min(endpoint.num_failures++, 20);
      endpoint.retry_at =
          Clock::now() + milliseconds(std::min<int64_t>(pause, config_.max_backoff_ms));
    }
    endpoint.num_in_flight -= static_cast<int64_t>(stream.items.size());
    const bool is_retryable = stream_end.is_retryable || !stream.fault.empty();
    const std::exception_ptr error =
        stream.fault.empty()
            ? stream_end.error
            : std::make_exception_ptr(RpcError(grpc::StatusCode::INTERNAL, stream.fault));
    for (uint64_t id : stream.items) {
      Pending& pending = pending_.at(id);
      pending.stream_id = 0;
      if (stream_end.refused_id) {
        // The others are as good as never sent.
        if (*stream_end.refused_id == id) {
          end(id, stream_end.error, {}, endings);
          continue;
        }
        --pending.num_attempts;
      }
      // A full server is no failure: the item waits for it.
      if (stream_end.is_busy && Clock::now() - pending.submitted_at < patience())
        --pending.num_attempts;
      if (is_retryable || stream_end.refused_id)
        retry(id, pending, error, endings);
      else
        end(id, error, {}, endings);
    }
  }
  call(endings);
  // Only now: shut_down returns when no callback runs any more.
  const std::lock_guard lock(mutex_);
  --num_live_streams_;
  streams_changed_.notify_all();
}

/// An attempt has had its time.
void RewardClient::Core::expire(uint64_t id, Pending& pending, std::vector<Ending>& endings) {
  OpenStream& stream = streams_.at(pending.stream_id);
  const Clock::time_point now = Clock::now();
  const Clock::time_point silent_until = stream.last_heard + milliseconds(config_.deadline_ms);
  if (silent_until > now && now - pending.submitted_at < patience())
    return set_timer(id, pending, silent_until);  // it answers others: the item is in its queue
  Endpoint& endpoint = endpoints_[stream.endpoint];
  // A server that has said nothing since is not slow but gone.
  const bool is_silent = stream.last_heard < pending.sent_at;
  const uint64_t stream_id = pending.stream_id;
  forget_attempt(pending, id);
  if (is_silent) {
    if (endpoint.stream_id == stream_id) endpoint.stream_id = 0;
    endpoint.retry_at = now + milliseconds(config_.max_backoff_ms);
    stream.stream->cancel();
  }
  retry(id, pending,
        std::make_exception_ptr(
            RpcError(grpc::StatusCode::DEADLINE_EXCEEDED,
                     concat("reward server ", endpoint.address, ": ScoreStream: no verdict within ",
                            config_.deadline_ms, " ms (attempt ", pending.num_attempts, " of ",
                            config_.retries + 1, ")"))),
        endings);
}

void RewardClient::Core::run_timer() {
  std::unique_lock lock(mutex_);
  while (!is_stopping_) {
    if (timers_.empty()) {
      timers_changed_.wait(lock);
      continue;
    }
    const auto [due, id] = *timers_.begin();
    if (Clock::now() < due) {
      timers_changed_.wait_until(lock, due);
      continue;
    }
    timers_.erase(timers_.begin());
    Pending& pending = pending_.at(id);
    if (pending.stream_id == 0) {
      dispatch(id, pending);
      continue;
    }
    std::vector<Ending> endings;
    expire(id, pending, endings);
    lock.unlock();
    call(endings);
    lock.lock();
  }
}

void RewardClient::Core::shut_down() {
  std::vector<Ending> endings;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    timers_changed_.notify_all();
  }
  timer_.join();
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, stream] : streams_) {
      stream.items.clear();
      stream.stream->cancel();
    }
    const auto cancelled = std::make_exception_ptr(Cancelled("reward client: shut down"));
    while (!pending_.empty()) end(pending_.begin()->first, cancelled, {}, endings);
  }
  call(endings);
  std::unique_lock lock(mutex_);
  streams_changed_.wait(lock, [&] { return num_live_streams_ == 0; });
  // Here and not with the last event's reference to this: gRPC's threads must not drop a channel.
  endpoints_.clear();
}

std::vector<VerifierDescription> RewardClient::Core::list_verifiers() {
  grpc::Status status;
  std::string address;
  for (const Endpoint& endpoint : endpoints_) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(config_.deadline_ms));
    v1::ListVerifiersResponse response;
    address = endpoint.address;
    status = endpoint.stub->ListVerifiers(&context, {}, &response);
    if (!status.ok()) continue;
    std::vector<VerifierDescription> verifiers;
    for (const v1::VerifierInfo& info : response.verifiers())
      verifiers.push_back({info.name(), info.description()});
    return verifiers;
  }
  rpc::throw_if_error(status, concat("reward server ", address, ": ListVerifiers"));
  return {};
}

namespace {

std::vector<RewardServer> connect_all(const std::vector<std::string>& addresses) {
  std::vector<RewardServer> servers;
  for (const std::string& address : addresses) servers.push_back({address, rpc::connect(address)});
  return servers;
}

}  // namespace

RewardClient::RewardClient(std::vector<RewardServer> servers, const RewardClientConfig& config) {
  check(!servers.empty(), "RewardClient: there is no server, expected at least one");
  check(config.deadline_ms >= 1, "RewardClient: deadline_ms is ", config.deadline_ms,
        ", expected >= 1");
  check(config.retries >= 0, "RewardClient: retries is ", config.retries, ", expected >= 0");
  check(config.backoff_ms >= 1 && config.max_backoff_ms >= config.backoff_ms,
        "RewardClient: backoff_ms is ", config.backoff_ms, " and max_backoff_ms is ",
        config.max_backoff_ms, ", expected 1 <= backoff_ms <= max_backoff_ms");
  core_ = std::make_shared<Core>(std::move(servers), config);
  core_->start();
}

RewardClient::RewardClient(const std::vector<std::string>& addresses,
                           const RewardClientConfig& config)
    : RewardClient(connect_all(addresses), config) {}

RewardClient::~RewardClient() { core_->shut_down(); }

void RewardClient::submit(ScoreItem item, Callback callback) {
  core_->submit(std::move(item), std::move(callback));
}

std::vector<Verdict> RewardClient::score_batch(std::vector<ScoreItem> items) {
  std::vector<std::future<Verdict>> futures;
  for (ScoreItem& item : items) {
    auto promise = std::make_shared<std::promise<Verdict>>();
    futures.push_back(promise->get_future());
    core_->submit(std::move(item), [promise](std::exception_ptr error, Verdict verdict) {
      if (error)
        promise->set_exception(error);
      else
        promise->set_value(std::move(verdict));
    });
  }
  for (const auto& future : futures) future.wait();
  std::vector<Verdict> verdicts;
  for (auto& future : futures) verdicts.push_back(future.get());
  return verdicts;
}

std::vector<VerifierDescription> RewardClient::list_verifiers() { return core_->list_verifiers(); }

}  // namespace moerl::reward
