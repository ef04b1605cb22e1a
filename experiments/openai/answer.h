#pragma once
#include <chrono>
#include <memory>
#include <vector>

#include "experiments/openai/service.h"

namespace moerl::openai {

/// Carries one request's generation to its exchange, streamed or whole. Lives on the exchange's
/// thread, until the answer's end or the client's; the exchange keeps it alive so long.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(PreparedRequest request, std::shared_ptr<Exchange> exchange, ModelWorker& worker,
         const policy::Tokenizer& tokenizer, ServerMetrics& metrics);
  ~Answer();
  Answer(const Answer&) = delete;

  void start();

 private:
  /// A choice on its way to the client.
  struct Progress {
    ReasoningSplitter splitter;
    Choice part;  ///< what was not sent yet: a stream's next chunk, or the whole choice
    bool begun = false;
  };

  void on_news();
  void on_gone();
  /// Puts the prompts in front of the choices.
  void echo(const std::vector<TokenScores>& scores);
  void add(GenerationEvent event);
  void send_chunks();
  void finish(std::exception_ptr error);
  void reply_whole();
  void fail(std::exception_ptr error);
  size_t prompt_of(size_t choice) const;

  PreparedRequest request_;
  std::shared_ptr<Exchange> exchange_;
  ModelWorker& worker_;
  const policy::Tokenizer& tokenizer_;
  ServerMetrics& metrics_;
  ReplyWriter writer_;
  std::shared_ptr<Generation> generation_;
  std::vector<Progress> choices_;
  Usage usage_;
  bool streaming_ = false, ended_ = false;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace moerl::openai
