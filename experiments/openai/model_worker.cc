#include "experiments/openai/model_worker.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace moerl::openai {

ModelWorker::ModelWorker(const Transformer& model, const EngineConfig& config, ExecContext& ctx)
    : ctx_(ctx),
      engine_(model, config, ctx),
      max_queue_(config.max_queue),
      max_batched_tokens_(config.max_batched_tokens),
      thread_([this] { run(); }) {}

ModelWorker::~ModelWorker() { stop(); }

void ModelWorker::wake() {
  std::lock_guard lock(mutex_);
  has_news_ = true;
  wake_.notify_one();
}

uint64_t ModelWorker::submit(GenerateRequest request, GenerateCallbacks callbacks) {
  const uint64_t id = engine_.submit(std::move(request), std::move(callbacks));
  wake();
  return id;
}

void ModelWorker::cancel(uint64_t id) {
  engine_.cancel(id);
  wake();
}

uint64_t ModelWorker::score(std::vector<std::vector<int32_t>> sequences, int64_t num_top,
                            OnScores on_scores) {
  std::lock_guard lock(mutex_);
  if (stopping_) throw Cancelled("the worker has stopped");
  const auto n = static_cast<int64_t>(sequences.size());
  if (waiting_sequences_ + n > max_queue_)
    throw ResourceExhausted(concat("the queue holds ", waiting_sequences_,
                                   " sequences to score and has no room for ", n, " more"));
  waiting_sequences_ += n;
  scorings_.push_back({.id = next_id_++,
                       .sequences = std::move(sequences),
                       .num_top = num_top,
                       .on_scores = std::move(on_scores)});
  has_news_ = true;
  wake_.notify_one();
  return scorings_.back().id;
}

void ModelWorker::cancel_score(uint64_t id) {
  std::lock_guard lock(mutex_);
  for (Scoring& scoring : scorings_)
    if (scoring.id == id) scoring.cancelled = true;
}

int64_t ModelWorker::num_waiting_scores() const {
  std::lock_guard lock(mutex_);
  return waiting_sequences_;
}

void ModelWorker::run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) break;
      has_news_ = false;
    }
    const bool stepped = engine_.step(), scored = score_some();
    if (stepped || scored) continue;
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return has_news_ || stopping_; });
  }
  engine_.stop();
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (scorings_.empty()) return;
    }
    end_scoring(std::make_exception_ptr(Cancelled("the worker has stopped")));
  }
}

bool ModelWorker::score_some() {
  Scoring* front;
  {
    std::lock_guard lock(mutex_);
    if (scorings_.empty()) return false;
    front = &scorings_.front();  // others are put behind it: it stays where it is
  }
  const auto is_cancelled = [&] {
    std::lock_guard lock(mutex_);
    return front->cancelled;
  };
  if (is_cancelled()) {
    end_scoring(std::make_exception_ptr(Cancelled("the request was cancelled")));
    return true;
  }
  const size_t begin = front->scores.size();
  size_t end = begin;
  for (int64_t tokens = 0; end < front->sequences.size(); ++end) {
    tokens += static_cast<int64_t>(front->sequences[end].size());
    if (end > begin && tokens > max_batched_tokens_) break;
  }
  try {
    const auto part = std::span(front->sequences).subspan(begin, end - begin);
    for (TokenScores& scores :
         score_tokens(ctx_, engine_.model(), part,
                      {.max_tokens = max_batched_tokens_, .num_top = front->num_top}))
      front->scores.push_back(std::move(scores));
  } catch (...) {
    end_scoring(std::current_exception());
    return true;
  }
  if (end == front->sequences.size()) end_scoring(nullptr);
  return true;
}

void ModelWorker::end_scoring(std::exception_ptr error) {
  Scoring ended;
  {
    std::lock_guard lock(mutex_);
    ended = std::move(scorings_.front());
    scorings_.pop_front();
    waiting_sequences_ -= static_cast<int64_t>(ended.sequences.size());
  }
  ended.on_scores(error ? std::vector<TokenScores>() : std::move(ended.scores), error);
}

void ModelWorker::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace moerl::openai
