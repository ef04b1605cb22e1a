#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "experiments/openai/answer_text.h"
#include "experiments/openai/model_worker.h"
#include "experiments/openai/reply.h"

namespace moerl::openai {

/// What the model is to do for one request.
struct GenerationPlan {
  std::vector<std::vector<int32_t>> prompts;
  bool scores_prompts = false;  ///< first
  /// max_tokens 0: nothing is generated.
  SamplingParams sampling;
  int64_t n = 1;
  uint64_t seed = 0;
  int64_t num_top = 0;  ///< likeliest tokens listed with each token
  std::vector<std::string> stop;
  /// Characters of the prompts' texts if they are echoed, else zeros; where text offsets begin.
  std::vector<int64_t> text_offsets;
};

/// A generated token, or the end of choice prompt * n + sample.
struct GenerationEvent {
  size_t choice = 0;
  std::string text;  ///< that is certain by then
  std::optional<ToldToken> token;
  std::string finish_reason;  ///< not empty: the end
};

/// One request at work. The tokens are those of the engine for this seed, prompt ids 0 …, sample
/// indices 0 …, whatever else runs; text ends before the first stop string.
/// All members may be called from any thread.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  struct News {
    std::vector<GenerationEvent> events;
    std::vector<TokenScores> scores;  ///< of the prompts, once, before any event
    std::optional<std::chrono::steady_clock::time_point> first_token;  ///< when it came; told once
    bool is_done = false;
    std::exception_ptr error;  ///< with is_done
  };

  /// @param on_news  called on the model's thread when there is something to take(), and not again
  ///   before it was taken; must not block. @param every_token  false: only of the end.
  Generation(ModelWorker& worker, const policy::Tokenizer& tokenizer, GenerationPlan plan,
             bool every_token, std::function<void()> on_news);

  /// @throws ResourceExhausted, Cancelled, std::invalid_argument; then nothing is ever called.
  void start();
  /// It ends with Cancelled soon, unless it has ended already.
  void cancel();
  News take();

 private:
  struct ChoiceText {
    ChoiceText(const policy::Tokenizer& tokenizer, const std::vector<std::string>& stop,
               int64_t offset)
        : decoder(tokenizer, /*skip_special=*/true), stops(stop), offset(offset) {}
    policy::StreamDecoder decoder;
    StopMatcher stops;
    int64_t offset;
  };

  void submit();
  bool on_token(const DrawnToken& drawn);
  void on_completion(const Completion& completion);
  void on_scores(std::vector<TokenScores> scores, std::exception_ptr error);
  void end(std::exception_ptr error);
  size_t choice_of(uint64_t prompt_id, int64_t sample_index) const;
  void tell(bool is_end);

  ModelWorker& worker_;
  const policy::Tokenizer& tokenizer_;
  const GenerationPlan plan_;
  const bool every_token_;
  const std::function<void()> on_news_;
  std::vector<ChoiceText> texts_;  // touched on the model's thread only

  std::mutex mutex_;
  // Guarded by mutex_.
  News news_;
  bool told_ = false, cancelled_ = false, has_tokens_ = false;
  uint64_t score_id_ = 0, request_id_ = 0;  // 0: none
};

}  // namespace moerl::openai
