#include "reward/scorer.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "common/check.h"

namespace moerl::reward {
namespace {

using Clock = WorkBudget::Clock;

/// A verdict without a score, for what ends outside of the verifier.
Verdict make_failure(const Verifier& verifier, VerdictStatus status, std::string detail) {
  Verdict verdict;
  verdict.status = status;
  verdict.detail = std::move(detail);
  for (const std::string& part : verifier.part_names()) verdict.parts[part] = 0;
  return verdict;
}

std::exception_ptr cancelled(const char* text) { return std::make_exception_ptr(Cancelled(text)); }

}  // namespace

struct Scorer::Job {
  ScoreItem item;
  std::shared_ptr<const Verifier> verifier;
  std::stop_token cancel;
  Done done;
};

// Shared by the scorer, its threads and its watchdog: a thread that hangs may outlive the scorer.
struct Scorer::State : std::enable_shared_from_this<Scorer::State> {
  /// Samples in work on one thread; several only for a verifier that takes batches.
  struct Run {
    std::vector<Job> jobs;
    Clock::time_point deadline;
    std::stop_source stop;
    bool is_over = false;  // someone ends the jobs; guarded by `mutex`
  };
  struct End {
    std::exception_ptr error;
    Verdict verdict;
  };

  explicit State(const ScorerConfig& c) : config(c) {}

  void enqueue(std::vector<Job> jobs);
  void start_thread();
  bool try_start_thread();
  void work();
  void watch();
  void shut_down();
  std::shared_ptr<Run> take_run();
  std::vector<End> judge(const Run& run) const;
  Verdict timeout_verdict(const Job& job) const;
  void count(const Verdict& verdict);
  std::vector<Job> take_queue();
  std::exception_ptr too_many_hang() const;

  const ScorerConfig config;
  std::mutex mutex;  // guards everything below
  std::condition_variable work_changed, runs_changed, all_ended;
  std::deque<Job> queue;
  std::list<std::shared_ptr<Run>> runs;  // in the order of their deadlines
  int live_threads = 0;                  // those that take work
  bool is_stopping = false;
  ScorerStats stats;
  std::thread watchdog;
};

void Scorer::State::start_thread() {
  // Detached: nobody can join a thread that hangs. shut_down waits for those that do not.
  std::thread([state = shared_from_this()] { state->work(); }).detach();
  ++live_threads;
}

bool Scorer::State::try_start_thread() {
  try {
    start_thread();
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

std::exception_ptr Scorer::State::too_many_hang() const {
  return std::make_exception_ptr(ResourceExhausted(concat(
      "scorer: ", stats.num_hung_threads, " threads hang in a verifier past ", "its deadline of ",
      config.deadline_ms, " ms, allowed are ", config.max_hung_threads)));
}

void Scorer::State::enqueue(std::vector<Job> jobs) {
  const std::lock_guard lock(mutex);
  if (stats.num_hung_threads > config.max_hung_threads) std::rethrow_exception(too_many_hang());
  if (queue.size() + jobs.size() > static_cast<size_t>(config.queue_capacity))
    throw ResourceExhausted(concat("scorer: the queue holds ", queue.size(), " of ",
                                   config.queue_capacity, " samples, no room for ", jobs.size()));
  std::move(jobs.begin(), jobs.end(), std::back_inserter(queue));
  work_changed.notify_all();
}

std::vector<Scorer::Job> Scorer::State::take_queue() {
  std::vector<Job> jobs(std::move_iterator(queue.begin()), std::move_iterator(queue.end()));
  queue.clear();
  return jobs;
}

void Scorer::State::count(const Verdict& verdict) {
  ++stats.num_scored;
  stats.num_timeouts += verdict.status == VerdictStatus::kTimeout;
  stats.num_internal_errors += verdict.status == VerdictStatus::kInternalError;
}

Verdict Scorer::State::timeout_verdict(const Job& job) const {
  Verdict verdict = make_failure(
      *job.verifier, VerdictStatus::kTimeout,
      concat("verifier '", job.verifier->name(), "' was cut at ", config.deadline_ms, " ms"));
  verdict.id = job.item.id;
  return verdict;
}

std::vector<Scorer::State::End> Scorer::State::judge(const Run& run) const {
  const Job& first = run.jobs.front();
  const WorkBudget budget(run.deadline, run.stop.get_token());
  std::vector<Verdict> verdicts;
  const auto all_fail = [&](const char* reason) {
    verdicts.assign(run.jobs.size(),
                    make_failure(*first.verifier, VerdictStatus::kInternalError, reason));
  };
  try {
    if (run.jobs.size() == 1) {
      verdicts.push_back(first.verifier->score(first.item.sample, first.item.options, budget));
    } else {
      std::vector<const Sample*> samples;
      for (const Job& job : run.jobs) samples.push_back(&job.item.sample);
      verdicts = first.verifier->score_batch(samples, first.item.options, budget);
      check(verdicts.size() == samples.size(), "verifier '", first.verifier->name(), "' gave ",
            verdicts.size(), " verdicts on ", samples.size(), " samples");
    }
  } catch (const WorkBudgetSpent&) {
    std::vector<End> ends;
    for (const Job& job : run.jobs) {
      if (Clock::now() < run.deadline)
        ends.push_back({cancelled("scorer: shut down"), {}});
      else
        ends.push_back({nullptr, timeout_verdict(job)});
    }
    return ends;
  } catch (const std::exception& error) {
    all_fail(error.what());
  } catch (...) {
    all_fail("unknown exception");
  }
  std::vector<End> ends;
  for (size_t i = 0; i < run.jobs.size(); ++i) {
    ends.push_back({nullptr, std::move(verdicts[i])});
    ends.back().verdict.id = run.jobs[i].item.id;
  }
  return ends;
}

/// The front of the queue, with what follows it and may share its batch: no more than this thread's
/// part of what waits. The lock is held; the queue is not empty.
std::shared_ptr<Scorer::State::Run> Scorer::State::take_run() {
  auto run = std::make_shared<Run>();
  const size_t threads = static_cast<size_t>(std::max(live_threads, 1));
  const size_t fair = (queue.size() + threads - 1) / threads;
  do {
    run->jobs.push_back(std::move(queue.front()));
    queue.pop_front();
  } while (run->jobs.size() < std::min(run->jobs.front().verifier->max_batch_size(), fair) &&
           !queue.empty() && queue.front().verifier == run->jobs.front().verifier &&
           queue.front().item.options == run->jobs.front().item.options);
  return run;
}

void Scorer::State::work() {
  std::unique_lock lock(mutex);
  while (true) {
    work_changed.wait(lock, [&] { return is_stopping || !queue.empty(); });
    if (queue.empty()) break;
    std::shared_ptr<Run> run = take_run();
    const auto wanted =
        std::stable_partition(run->jobs.begin(), run->jobs.end(),
                              [](const Job& job) { return !job.cancel.stop_requested(); });
    std::vector<Job> dropped(std::make_move_iterator(wanted),
                             std::make_move_iterator(run->jobs.end()));
    run->jobs.erase(wanted, run->jobs.end());
    if (!dropped.empty()) {
      lock.unlock();
      for (Job& job : dropped) job.done(cancelled("scorer: the caller cancelled the sample"), {});
      dropped.clear();
      lock.lock();
    }
    if (run->jobs.empty()) continue;
    const auto shares = static_cast<int64_t>(run->jobs.size() == 1 ? 1 : run->jobs.size() + 1);
    run->deadline = Clock::now() + shares * std::chrono::milliseconds(config.deadline_ms);
    const auto later = std::find_if(
        runs.begin(), runs.end(), [&](const auto& each) { return each->deadline > run->deadline; });
    runs.insert(later, run);
    runs_changed.notify_one();
    lock.unlock();
    std::vector<End> ends = judge(*run);
    lock.lock();

    if (run->is_over) {
      --stats.num_hung_threads;
      if (is_stopping || live_threads >= config.num_threads) return;
      ++live_threads;
      continue;
    }
    run->is_over = true;
    runs.remove(run);
    for (const End& end : ends)
      if (!end.error) count(end.verdict);
    lock.unlock();
    for (size_t i = 0; i < ends.size(); ++i)
      run->jobs[i].done(ends[i].error, std::move(ends[i].verdict));
    run.reset();
    lock.lock();
  }
  --live_threads;
  runs_changed.notify_all();
  all_ended.notify_all();
}

void Scorer::State::watch() {
  std::unique_lock lock(mutex);
  while (!(is_stopping && live_threads == 0)) {
    if (runs.empty()) {
      runs_changed.wait(lock);
      continue;
    }
    if (Clock::now() < runs.front()->deadline) {
      const Clock::time_point deadline = runs.front()->deadline;
      runs_changed.wait_until(lock, deadline);
      continue;
    }
    const std::shared_ptr<Run> run = std::move(runs.front());
    runs.pop_front();
    run->is_over = true;
    --live_threads;
    ++stats.num_hung_threads;
    std::exception_ptr refusal;
    std::vector<Job> refused;
    const bool may_replace = !is_stopping && stats.num_hung_threads <= config.max_hung_threads;
    if (!(may_replace && try_start_thread()) && live_threads == 0 && !is_stopping) {
      refusal = too_many_hang();
      refused = take_queue();
    }
    // The hanging thread still reads the samples; what ends them is taken from it.
    std::vector<std::pair<Done, Verdict>> ends;
    for (Job& job : run->jobs) {
      ends.emplace_back(std::move(job.done), timeout_verdict(job));
      count(ends.back().second);
    }
    all_ended.notify_all();
    lock.unlock();
    run->stop.request_stop();
    for (auto& [done, verdict] : ends) done(nullptr, std::move(verdict));
    ends.clear();
    for (Job& job : refused) job.done(refusal, {});
    refused.clear();
    lock.lock();
  }
}

void Scorer::State::shut_down() {
  std::unique_lock lock(mutex);
  is_stopping = true;
  std::vector<Job> dropped = take_queue();
  const std::vector<std::shared_ptr<Run>> running(runs.begin(), runs.end());
  work_changed.notify_all();
  runs_changed.notify_all();
  lock.unlock();
  for (const auto& run : running) run->stop.request_stop();
  for (Job& job : dropped) job.done(cancelled("scorer: shut down"), {});
  lock.lock();
  all_ended.wait(lock, [&] { return live_threads == 0; });
  runs_changed.notify_all();
  lock.unlock();
  watchdog.join();
}

Scorer::Scorer(std::shared_ptr<const VerifierRegistry> registry, const ScorerConfig& config)
    : registry_(std::move(registry)), state_(std::make_shared<State>(config)) {
  check(registry_ != nullptr, "Scorer: registry is null");
  check(config.num_threads >= 1, "Scorer: num_threads is ", config.num_threads, ", expected >= 1");
  check(config.queue_capacity >= 1, "Scorer: queue_capacity is ", config.queue_capacity,
        ", expected >= 1");
  check(config.deadline_ms >= 1, "Scorer: deadline_ms is ", config.deadline_ms, ", expected >= 1");
  check(config.max_hung_threads >= 0, "Scorer: max_hung_threads is ", config.max_hung_threads,
        ", expected >= 0");
  state_->watchdog = std::thread([state = state_.get()] { state->watch(); });
  try {
    const std::lock_guard lock(state_->mutex);
    for (int i = 0; i < config.num_threads; ++i) state_->start_thread();
  } catch (...) {
    state_->shut_down();
    throw;
  }
}

Scorer::~Scorer() { state_->shut_down(); }

Scorer::Job Scorer::make_job(ScoreItem item, const std::stop_token& cancel) const {
  auto verifier = registry_->get(item.verifier);
  verifier->check_options(item.options);
  return {std::move(item), std::move(verifier), cancel, nullptr};
}

void Scorer::submit(ScoreItem item, std::stop_token cancel, Done done) {
  std::vector<Job> jobs;
  jobs.push_back(make_job(std::move(item), cancel));
  jobs.back().done = std::move(done);
  state_->enqueue(std::move(jobs));
}

void Scorer::submit_batch(std::vector<ScoreItem> items, std::stop_token cancel, BatchDone done) {
  struct Batch {
    std::mutex mutex;
    size_t num_open;
    std::exception_ptr error;
    std::vector<Verdict> verdicts;
    BatchDone done;
  };
  if (items.empty()) return done(nullptr, {});
  auto batch = std::make_shared<Batch>();
  batch->num_open = items.size();
  batch->verdicts.resize(items.size());
  batch->done = std::move(done);

  std::vector<Job> jobs;
  for (size_t i = 0; i < items.size(); ++i) {
    jobs.push_back(make_job(std::move(items[i]), cancel));
    jobs.back().done = [batch, i](std::exception_ptr error, Verdict verdict) {
      {
        const std::lock_guard lock(batch->mutex);
        batch->verdicts[i] = std::move(verdict);
        if (error && !batch->error) batch->error = error;
        if (--batch->num_open > 0) return;
      }
      batch->done(batch->error, std::move(batch->verdicts));
    };
  }
  state_->enqueue(std::move(jobs));
}

ScorerStats Scorer::stats() const {
  const std::lock_guard lock(state_->mutex);
  ScorerStats stats = state_->stats;
  stats.num_queued = static_cast<int>(state_->queue.size());
  return stats;
}

}  // namespace moerl::reward
