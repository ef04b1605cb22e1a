#include "experiments/openai/generation.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace moerl::openai {

Generation::Generation(ModelWorker& worker, const policy::Tokenizer& tokenizer, GenerationPlan plan,
                       bool every_token, std::function<void()> on_news)
    : worker_(worker),
      tokenizer_(tokenizer),
      plan_(std::move(plan)),
      every_token_(every_token),
      on_news_(std::move(on_news)) {
  check_internal(plan_.text_offsets.size() == plan_.prompts.size(),
                 "Generation: not one text offset for each prompt");
  for (int64_t offset : plan_.text_offsets)
    for (int64_t i = 0; i < plan_.n; ++i) texts_.emplace_back(tokenizer, plan_.stop, offset);
}

void Generation::start() {
  std::lock_guard lock(mutex_);
  if (!plan_.scores_prompts) return submit();
  score_id_ = worker_.score(
      plan_.prompts, plan_.num_top,
      [self = shared_from_this()](std::vector<TokenScores> scores, std::exception_ptr e) {
        self->on_scores(std::move(scores), e);
      });
}

void Generation::on_scores(std::vector<TokenScores> scores, std::exception_ptr error) {
  {
    std::lock_guard lock(mutex_);
    score_id_ = 0;
    news_.scores = std::move(scores);
    if (!error && cancelled_)
      error = std::make_exception_ptr(Cancelled("the request was cancelled"));
    if (!error && plan_.sampling.max_tokens > 0) {
      try {
        return submit();
      } catch (...) {
        error = std::current_exception();
      }
    }
    if (!error)
      for (size_t i = 0; i < texts_.size(); ++i)
        news_.events.push_back({.choice = i, .text = {}, .token = {}, .finish_reason = "length"});
  }
  end(error);
}

void Generation::submit() {
  GenerateRequest request;
  for (size_t i = 0; i < plan_.prompts.size(); ++i)
    request.prompts.push_back({.prompt_id = i, .token_ids = plan_.prompts[i]});
  request.group_size = plan_.n;
  request.sampling = plan_.sampling;
  request.seed = plan_.seed;
  request.num_top_log_probs = plan_.num_top;
  const auto self = shared_from_this();
  request_id_ = worker_.submit(
      std::move(request),
      {.on_completion = [self](Completion c) { self->on_completion(c); },
       .on_done = [self](std::exception_ptr e) { self->end(e); },
       .on_token = [self](const DrawnToken& drawn) { return self->on_token(drawn); }});
}

size_t Generation::choice_of(uint64_t prompt_id, int64_t sample_index) const {
  return static_cast<size_t>(prompt_id) * static_cast<size_t>(plan_.n) +
         static_cast<size_t>(sample_index);
}

bool Generation::on_token(const DrawnToken& drawn) {
  GenerationEvent event{.choice = choice_of(drawn.prompt_id, drawn.sample_index)};
  ChoiceText& text = texts_[event.choice];
  event.token = ToldToken{.token = drawn.token,
                          .log_prob = drawn.log_prob,
                          .top = {drawn.top.begin(), drawn.top.end()},
                          .text_offset = text.offset};
  const std::vector<int32_t>& stops = plan_.sampling.stop_token_ids;
  // Neither the token that ends a completion nor an id without a token is part of the text.
  if (std::find(stops.begin(), stops.end(), drawn.token) == stops.end() &&
      tokenizer_.has_token(drawn.token)) {
    const std::string piece = text.decoder.push(drawn.token);
    text.offset += num_characters(piece);
    event.text = text.stops.push(piece);
  }
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(has_tokens_, true)) news_.first_token = std::chrono::steady_clock::now();
    news_.events.push_back(std::move(event));
  }
  tell(false);
  return !text.stops.stopped();
}

void Generation::on_completion(const Completion& completion) {
  GenerationEvent event{.choice = choice_of(completion.prompt_id, completion.sample_index)};
  ChoiceText& text = texts_[event.choice];
  event.text = text.stops.push(text.decoder.finish());
  event.text += text.stops.finish();
  const bool stopped = text.stops.stopped() || completion.finish_reason == FinishReason::kStop;
  event.finish_reason = stopped ? "stop" : "length";
  {
    std::lock_guard lock(mutex_);
    news_.events.push_back(std::move(event));
  }
  tell(false);
}

void Generation::end(std::exception_ptr error) {
  {
    std::lock_guard lock(mutex_);
    request_id_ = 0;
    news_.is_done = true;
    news_.error = error;
  }
  tell(true);
}

void Generation::tell(bool is_end) {
  {
    std::lock_guard lock(mutex_);
    if (told_ || (!is_end && !every_token_)) return;
    told_ = true;
  }
  on_news_();
}

void Generation::cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (score_id_ != 0) worker_.cancel_score(score_id_);
  if (request_id_ != 0) worker_.cancel(request_id_);
}

Generation::News Generation::take() {
  std::lock_guard lock(mutex_);
  told_ = false;
  return std::exchange(news_, {});
}

}  // namespace moerl::openai
