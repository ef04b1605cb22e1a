#include "rollout/pool_run.h"

#include <grpcpp/support/status.h>

#include <algorithm>

#include "common/check.h"
#include "common/error.h"

namespace moerl {
namespace {

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

template <typename Error>
bool is(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

PoolRun::PoolRun(const WorkerPoolConfig& config, std::vector<std::unique_ptr<PoolWorker>>& workers,
                 const GenerateRequest& request,
                 const std::function<void(const Completion&)>& on_completion)
    : config_(config), workers_(workers), request_(request), on_completion_(on_completion) {
  check(request.group_size >= 1, "WorkerPool: group_size is ", request.group_size,
        ", expected >= 1");
  for (size_t i = 0; i < request.prompts.size(); ++i)
    check(prompt_index_.emplace(request.prompts[i].prompt_id, i).second, "WorkerPool: prompt_id ",
          request.prompts[i].prompt_id, " occurs twice, expected different ones");
  results_.resize(static_cast<size_t>(request.num_sequences()));
  missing_ = request.num_sequences();
  loads_.resize(workers.size());
}

PoolRun::~PoolRun() {
  for (auto& [id, call] : calls_) call.handle->cancel();
}

std::vector<Completion> PoolRun::run() {
  split_work();
  last_progress_ = Clock::now();
  while (true) {
    hand_out();
    if (missing_ == 0 && calls_.empty()) break;
    std::optional<Event> event = wait();
    if (!event) continue;
    if (event->completion)
      take_completion(calls_.at(event->call), std::move(*event->completion));
    else
      end_call(event->call, event->error);
  }
  std::vector<Completion> completions;
  completions.reserve(results_.size());
  for (std::optional<Completion>& result : results_) completions.push_back(std::move(*result));
  return completions;
}

void PoolRun::split_work() {
  const auto num_prompts = static_cast<int64_t>(request_.prompts.size());
  const auto num_workers = static_cast<int64_t>(workers_.size());
  const int64_t size = std::max<int64_t>(
      1, std::min({config_.prompts_per_call, config_.max_inflight_sequences / request_.group_size,
                   num_prompts / (4 * num_workers)}));
  for (int64_t begin = 0; begin < num_prompts; begin += size) {
    Portion portion{.first = request_.first_sample_index, .count = request_.group_size};
    for (int64_t i = begin; i < std::min(begin + size, num_prompts); ++i)
      portion.prompts.push_back(static_cast<size_t>(i));
    portions_.push_back(std::move(portion));
  }
}

void PoolRun::hand_out() {
  while (!portions_.empty()) {
    const std::optional<size_t> worker = choose_worker(portions_.front().num_sequences());
    if (!worker) break;
    Portion portion = std::move(portions_.front());
    portions_.pop_front();
    start_call(*worker, std::move(portion));
  }
  const bool any_alive = std::any_of(workers_.begin(), workers_.end(),
                                     [](const auto& worker) { return worker->is_alive; });
  if (!portions_.empty() && !any_alive) fail_without_workers();
}

std::optional<size_t> PoolRun::choose_worker(int64_t num_sequences) const {
  std::optional<size_t> best;
  const Clock::time_point now = Clock::now();
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (!workers_[i]->is_alive || now < loads_[i].not_before) continue;
    const int64_t inflight = loads_[i].inflight;
    if (inflight > 0 && inflight + num_sequences > config_.max_inflight_sequences) continue;
    if (!best || inflight < loads_[*best].inflight) best = i;
  }
  return best;
}

void PoolRun::start_call(size_t worker, Portion portion) {
  GenerateRequest request{.group_size = portion.count,
                          .sampling = request_.sampling,
                          .seed = request_.seed,
                          .policy_version = request_.policy_version,
                          .first_sample_index = portion.first};
  for (size_t prompt : portion.prompts) request.prompts.push_back(request_.prompts[prompt]);
  loads_[worker].inflight += portion.num_sequences();
  const uint64_t id = next_call_++;
  Call& call = calls_[id];
  call.worker = worker;
  call.portion = std::move(portion);
  call.handle = workers_[worker]->client.generate_async(
      request, std::chrono::milliseconds(static_cast<int64_t>(config_.call_timeout_s * 1000)),
      [this, id](Completion completion) {
        push({id, std::move(completion), nullptr});
      },
      [this, id](std::exception_ptr error) {
        push({id, std::nullopt, error});
      });
}

void PoolRun::push(Event event) {
  // Notified under the lock: the loop may end, and this object with it, once the lock is free.
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  arrived_.notify_one();
}

std::optional<PoolRun::Event> PoolRun::wait() {
  const Clock::time_point give_up = last_progress_ + duration(config_.call_timeout_s);
  // Calls under way have a deadline of their own and report its passing.
  Clock::time_point until = calls_.empty() ? give_up : give_up + std::chrono::seconds(10);
  const Clock::time_point now = Clock::now();
  if (!portions_.empty())
    for (size_t i = 0; i < workers_.size(); ++i)
      if (workers_[i]->is_alive && loads_[i].not_before > now)
        until = std::min(until, loads_[i].not_before);
  std::unique_lock lock(mutex_);
  if (!arrived_.wait_until(lock, until, [&] { return !events_.empty(); })) {
    if (Clock::now() >= give_up)
      throw RpcError(grpc::StatusCode::DEADLINE_EXCEEDED,
                     concat("rollout: no completion arrived for ", config_.call_timeout_s, " s; ",
                            missing_, " of ", results_.size(), " are missing"));
    return std::nullopt;
  }
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

size_t PoolRun::slot(size_t prompt, int64_t sample_index) const {
  return prompt * static_cast<size_t>(request_.group_size) +
         static_cast<size_t>(sample_index - request_.first_sample_index);
}

void PoolRun::take_completion(const Call& call, Completion completion) {
  const Portion& portion = call.portion;
  const std::string& name = workers_[call.worker]->client.name();
  const auto found = prompt_index_.find(completion.prompt_id);
  const bool asked = found != prompt_index_.end() &&
                     std::count(portion.prompts.begin(), portion.prompts.end(), found->second) &&
                     completion.sample_index >= portion.first &&
                     completion.sample_index < portion.first + portion.count;
  if (!asked || results_[slot(found->second, completion.sample_index)])
    throw RpcError(grpc::StatusCode::INTERNAL,
                   concat(name, ": sent sample ", completion.sample_index, " of prompt ",
                          completion.prompt_id, asked ? " twice" : ", which it was not asked for"));
  const int64_t expected = request_.policy_version >= 0
                               ? request_.policy_version
                               : version_.value_or(completion.policy_version);
  if (completion.policy_version != expected)
    throw FailedPrecondition(concat(name, ": completion is of policy version ",
                                    completion.policy_version, ", expected ", expected));
  version_ = expected;
  last_progress_ = Clock::now();
  loads_[call.worker].backoff = {};
  --missing_;
  std::optional<Completion>& result = results_[slot(found->second, completion.sample_index)];
  result = std::move(completion);
  if (on_completion_) on_completion_(*result);
}

void PoolRun::end_call(uint64_t id, std::exception_ptr error) {
  auto node = calls_.extract(id);
  const Call& call = node.mapped();
  loads_[call.worker].inflight -= call.portion.num_sequences();
  std::vector<Portion> missing = missing_of(call.portion);
  if (!error && !missing.empty())
    error = std::make_exception_ptr(
        RpcError(grpc::StatusCode::INTERNAL,
                 concat(workers_[call.worker]->client.name(),
                        ": Generate ended well before all its completions had come")));
  if (error) worker_failed(call.worker, error);
  portions_.insert(portions_.begin(), missing.begin(), missing.end());
}

void PoolRun::worker_failed(size_t worker, std::exception_ptr error) {
  if (is<std::invalid_argument>(error)) std::rethrow_exception(error);
  if (is<ResourceExhausted>(error)) {
    Load& load = loads_[worker];
    load.backoff = std::clamp(load.backoff * 2, duration(config_.min_backoff_s),
                              duration(config_.max_backoff_s));
    load.not_before = Clock::now() + load.backoff;
    return;
  }
  workers_[worker]->is_alive = false;
  workers_[worker]->error = error;
}

std::vector<PoolRun::Portion> PoolRun::missing_of(const Portion& portion) const {
  std::vector<Portion> missing;
  for (size_t prompt : portion.prompts) {
    for (int64_t s = portion.first; s < portion.first + portion.count; ++s) {
      if (results_[slot(prompt, s)]) continue;
      const bool follows = !missing.empty() && missing.back().prompts.front() == prompt &&
                           missing.back().first + missing.back().count == s;
      if (follows)
        ++missing.back().count;
      else
        missing.push_back({{prompt}, s, 1});
    }
  }
  return missing;
}

void PoolRun::fail_without_workers() const {
  std::string text = concat("rollout: no worker is left; ", missing_, " of ", results_.size(),
                            " completions are missing");
  bool all_other_version = true;
  for (const auto& worker : workers_) {
    text += "\n  " + text_of(worker->error);
    all_other_version = all_other_version && is<FailedPrecondition>(worker->error);
  }
  if (all_other_version) throw FailedPrecondition(text);
  throw RpcError(grpc::StatusCode::UNAVAILABLE, text);
}

}  // namespace moerl
