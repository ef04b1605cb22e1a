#include "experiments/openai/answer.h"

#include <utility>

#include "common/error.h"

namespace moerl::openai {
namespace {

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Answer::Answer(PreparedRequest request, std::shared_ptr<Exchange> exchange, ModelWorker& worker,
               const policy::Tokenizer& tokenizer, ServerMetrics& metrics)
    : request_(std::move(request)),
      exchange_(std::move(exchange)),
      worker_(worker),
      tokenizer_(tokenizer),
      metrics_(metrics),
      writer_(request_.format, tokenizer),
      usage_(request_.usage),
      begin_(std::chrono::steady_clock::now()) {
  ++metrics_.active_requests;
  const size_t n = request_.plan.prompts.size() * static_cast<size_t>(request_.plan.n);
  for (size_t i = 0; i < n; ++i) {
    choices_.push_back({ReasoningSplitter(request_.starts_inside), {}, false});
    choices_[i].part.index = static_cast<int64_t>(i);
    if (request_.format.return_token_ids)
      choices_[i].part.prompt_token_ids = request_.plan.prompts[prompt_of(i)];
  }
}

Answer::~Answer() { --metrics_.active_requests; }

size_t Answer::prompt_of(size_t choice) const {
  return choice / static_cast<size_t>(request_.plan.n);
}

void Answer::start() {
  generation_ =
      std::make_shared<Generation>(worker_, tokenizer_, request_.plan, request_.stream,
                                   [weak = weak_from_this(), exchange = std::weak_ptr(exchange_)] {
                                     const auto to = exchange.lock();
                                     if (!to) return;
                                     to->post([weak] {
                                       if (const auto self = weak.lock()) self->on_news();
                                     });
                                   });
  try {
    generation_->start();
  } catch (...) {
    return fail(std::current_exception());
  }
  exchange_->on_gone([self = shared_from_this()] { self->on_gone(); });
  if (request_.stream) {
    streaming_ = true;
    exchange_->begin_events();
    if (request_.format.is_chat)
      for (Progress& choice : choices_) {
        exchange_->send_event(writer_.chunk(choice.part, true));
        choice.begun = true;
      }
  }
  if (!request_.plan.scores_prompts) echo({});
}

void Answer::on_news() {
  if (ended_) return;
  Generation::News news = generation_->take();
  if (news.first_token) metrics_.first_token_seconds.observe(seconds(*news.first_token - begin_));
  if (!news.scores.empty()) echo(news.scores);
  for (GenerationEvent& event : news.events) add(std::move(event));
  if (streaming_) send_chunks();
  if (news.is_done && !ended_) finish(news.error);
}

void Answer::on_gone() {
  ended_ = true;
  generation_->cancel();
}

void Answer::echo(const std::vector<TokenScores>& scores) {
  for (size_t i = 0; i < choices_.size(); ++i) {
    const size_t prompt = prompt_of(i);
    Choice& part = choices_[i].part;
    if (!request_.echoed.empty()) part.text = request_.echoed[prompt];
    if (scores.empty()) continue;
    const std::vector<int32_t>& ids = request_.plan.prompts[prompt];
    const TokenScores& score = scores[prompt];
    for (size_t t = 0; t < ids.size(); ++t) {
      ToldToken told{.token = ids[t],
                     .log_prob = {},
                     .top = {},
                     .text_offset = request_.prompt_text_offsets[prompt][t]};
      if (t > 0) told.log_prob = score.log_probs[t - 1];
      if (t > 0 && !score.top.empty()) told.top = score.top[t - 1];
      part.tokens.push_back(std::move(told));
    }
  }
  if (streaming_) send_chunks();
}

void Answer::add(GenerationEvent event) {
  Progress& choice = choices_[event.choice];
  Choice& part = choice.part;
  const auto take = [&](AnswerPiece piece) {
    part.reasoning += piece.reasoning;
    part.text += piece.content;
  };
  if (request_.separates_reasoning)
    take(choice.splitter.push(event.text));
  else
    part.text += event.text;
  if (event.token) {
    ++usage_.completion_tokens;
    ++metrics_.generated_tokens;
    if (request_.format.return_token_ids) part.token_ids.push_back(event.token->token);
    if (request_.format.top_log_probs) part.tokens.push_back(std::move(*event.token));
  }
  if (event.finish_reason.empty()) return;
  if (request_.separates_reasoning) take(choice.splitter.finish());
  part.finish_reason = std::move(event.finish_reason);
}

void Answer::send_chunks() {
  for (Progress& choice : choices_) {
    Choice& part = choice.part;
    if (part.text.empty() && part.reasoning.empty() && part.tokens.empty() &&
        part.token_ids.empty() && part.finish_reason.empty())
      continue;
    exchange_->send_event(writer_.chunk(part, !choice.begun));
    if (ended_) return;  // the client was dropped
    choice.begun = true;
    choice.part = Choice{.index = part.index};
  }
}

void Answer::finish(std::exception_ptr error) {
  if (error) return fail(error);
  ended_ = true;
  metrics_.prompt_tokens += static_cast<uint64_t>(usage_.prompt_tokens);
  metrics_.request_seconds.observe(seconds(std::chrono::steady_clock::now() - begin_));
  if (!streaming_) return reply_whole();
  metrics_.count_reply(request_.path, 200);
  if (request_.format.include_usage) exchange_->send_event(writer_.usage_chunk(usage_));
  exchange_->send_event("[DONE]");
  exchange_->end_events();
}

void Answer::reply_whole() {
  // Log-probs of long prompts take a while to write.
  exchange_->post_aside([self = shared_from_this()]() mutable {
    std::vector<Choice> choices;
    for (Progress& choice : self->choices_) choices.push_back(std::move(choice.part));
    self->choices_.clear();
    HttpReply reply;
    try {
      reply.body = self->writer_.whole(choices, self->usage_);
    } catch (...) {
      reply = error_reply(std::current_exception());
    }
    Exchange& exchange = *self->exchange_;
    exchange.post([self = std::move(self), reply = std::move(reply)] {
      self->metrics_.count_reply(self->request_.path, reply.status);
      self->exchange_->reply(reply);
    });
  });
}

void Answer::fail(std::exception_ptr error) {
  ended_ = true;
  HttpReply reply = error_reply(error);
  metrics_.count_reply(request_.path, reply.status);
  if (!streaming_) return exchange_->reply(std::move(reply));
  exchange_->send_event(reply.body);
  exchange_->end_events();
}

}  // namespace moerl::openai
