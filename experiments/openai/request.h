#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "policy/chat_template.h"
#include "rollout/completion.h"

namespace moerl::openai {

inline constexpr int64_t kMaxTopLogProbs = 20;
inline constexpr size_t kMaxStops = 64, kMaxStopBytes = 1024;

/// What both kinds of requests may say. Beside OpenAI's fields these extensions are understood, by
/// the names that vLLM and SGLang gave them: top_k, min_p, stop_token_ids, ignore_eos,
/// return_token_ids.
struct RequestOptions {
  std::string model;                  ///< empty: not named
  SamplingParams sampling;            ///< stop_token_ids: those of the request alone
  std::optional<int64_t> max_tokens;  ///< >= 0
  int64_t n = 1;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  /// Log-probs are asked for, with so many of the likeliest tokens in each place.
  std::optional<int64_t> top_log_probs;
  bool stream = false, include_usage = false;
  bool ignore_eos = false;        ///< only the request's own stops end a completion
  bool return_token_ids = false;  ///< choices carry prompt_token_ids and token_ids
};

/// Text, or the tokens themselves.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

/// POST /v1/completions. max_tokens is 0 only if the prompt is echoed.
struct CompletionRequest : RequestOptions {
  std::vector<Prompt> prompts;     ///< at least one
  bool echo = false;               ///< the answer begins with the prompt
  bool add_special_tokens = true;  ///< put the tokenizer's BOS before text, as `moerl score` does
};

/// POST /v1/chat/completions.
struct ChatRequest : RequestOptions {
  std::vector<policy::ChatMessage> messages;  ///< at least one
  std::optional<bool> thinking;               ///< chat_template_kwargs: enable_thinking or thinking
  bool separate_reasoning = true;             ///< false: thinking stays in content, tags included
};

/// Reads a body. Pure. A field that is null counts as absent. Fields that change nothing about the
/// tokens (user, metadata, …) are accepted; those that would and that the engine does not have
/// (logit_bias, tools, …) are refused by name unless they have their neutral value, and so is
/// everything unknown.
/// @throws ApiError 400 naming the field, what was got and what was expected.
CompletionRequest parse_completion_request(std::string_view body);
ChatRequest parse_chat_request(std::string_view body);

}  // namespace moerl::openai
