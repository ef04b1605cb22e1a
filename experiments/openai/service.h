#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "experiments/open_model.h"
#include "experiments/openai/exchange.h"
#include "experiments/openai/generation.h"
#include "experiments/openai/request.h"
#include "experiments/openai/server_metrics.h"

namespace moerl::openai {

struct ServiceConfig {
  std::string model_name;  ///< what clients call the model
  std::string api_key;     ///< empty: none is needed
  int64_t max_tokens = 0;  ///< a request may generate for one completion; 0: the model's positions
  EngineConfig engine;
};

/// A request that was understood: what the model is to do and how the answer is written.
struct PreparedRequest {
  GenerationPlan plan;
  ReplyFormat format;
  std::string path;
  bool stream = false, separates_reasoning = false, starts_inside = false;
  std::vector<std::string> echoed;                        ///< a text for each prompt, or none
  std::vector<std::vector<int64_t>> prompt_text_offsets;  ///< of echoed tokens; as plan.prompts
  Usage usage;                                            ///< prompt tokens alone
};

/// What the server does, apart from HTTP's transport. Completions are those of the engine: prompt i
/// of a request has prompt id i, sample j the sample index j, and the seed is the request's.
class Service {
 public:
  /// Model, template, context are borrowed. @throws ConfigError if the model has no tokenizer or
  /// nothing ends its completions.
  Service(ExecContext& ctx, const OpenedModel& model, policy::ChatTemplate chat,
          ServiceConfig config);

  /// What a request's head alone decides: refusals (401, 404, 405, 503) and what has no body.
  /// None: the body is wanted. @param authorization  the header's value.
  std::optional<HttpReply> answer_head(const std::string& method, const std::string& path,
                                       const std::string& authorization) const;
  /// Reads the body of a POST. Thread safe. @throws ApiError.
  PreparedRequest prepare(const std::string& path, std::string_view body) const;
  /// Answers. To be called on the exchange's thread.
  void start(PreparedRequest request, std::shared_ptr<Exchange> exchange);

  /// From now on requests are refused with 503.
  void drain() { draining_ = true; }
  /// Ends everything that runs.
  void stop() { worker_.stop(); }

  ServerMetrics& metrics() { return metrics_; }
  const ModelWorker& worker() const { return worker_; }

 private:
  void prepare_options(const RequestOptions& options, int64_t default_tokens,
                       PreparedRequest& out) const;
  PreparedRequest prepare_completion(std::string_view body) const;
  PreparedRequest prepare_chat(std::string_view body) const;
  void add_prompt(const Prompt& prompt, const CompletionRequest& request, size_t index,
                  PreparedRequest& out) const;
  bool is_authorised(const std::string& authorization) const;

  const OpenedModel& model_;
  const LoadedTokenizer& tokenizer_;
  const policy::ChatTemplate chat_;
  const ServiceConfig config_;
  const std::vector<int32_t> stop_tokens_;
  const int64_t created_;
  ServerMetrics metrics_;
  std::atomic<bool> draining_ = false;
  ModelWorker worker_;  // last: its callbacks use the others
};

/// What an exception is to a client; the details of a failure inside go to standard error.
HttpReply error_reply(std::exception_ptr error);

}  // namespace moerl::openai
