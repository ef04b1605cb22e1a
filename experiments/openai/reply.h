#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/tokenizer.h"
#include "policy/top_log_probs.h"

namespace moerl::openai {

/// A token as a client is told of it.
struct ToldToken {
  int32_t token = 0;
  std::optional<float> log_prob;  ///< none for the first token of a sequence
  std::vector<TokenLogProb> top;  ///< likeliest tokens in its place, as many as asked for
  int64_t text_offset = 0;        ///< characters of the choice's text before it
};

/// One completion, or what a stream adds to it.
struct Choice {
  int64_t index = 0;
  std::string text;                       ///< of a chat: content
  std::string reasoning;                  ///< of a chat
  std::vector<ToldToken> tokens;          ///< with those of an echoed prompt; for logprobs
  std::string finish_reason;              ///< stop or length; empty while it goes on
  std::vector<int32_t> token_ids;         ///< generated; told if asked for
  std::vector<int32_t> prompt_token_ids;  ///< told with the first part if asked for
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0;
};

struct ReplyFormat {
  bool is_chat = false;
  std::string id, model, fingerprint;
  int64_t created = 0;  ///< seconds since 1970
  uint64_t seed = 0;    ///< told in whole replies, so that any can be had again
  std::optional<int64_t> top_log_probs;
  bool include_usage = false, return_token_ids = false;
};

/// Writes answers as OpenAI's clients read them. Pure. Log-probs are printed so that reading them
/// gives the same float again. Every generated token is listed in logprobs, the one that ended the
/// completion included.
class ReplyWriter {
 public:
  /// The tokenizer is borrowed.
  ReplyWriter(ReplyFormat format, const policy::Tokenizer& tokenizer)
      : format_(std::move(format)), tokenizer_(tokenizer) {}

  std::string whole(const std::vector<Choice>& choices, const Usage& usage) const;
  /// Data of one server-sent event. @param first  the choice's first one: the role of a chat, the
  ///   prompt's tokens.
  std::string chunk(const Choice& added, bool first) const;
  /// The last chunk if include_usage was asked for.
  std::string usage_chunk(const Usage& usage) const;

 private:
  ReplyFormat format_;
  const policy::Tokenizer& tokenizer_;
};

/// The model as an element of /v1/models, and the list of the one model.
std::string model_json(const std::string& model, int64_t created, int64_t max_positions);
std::string models_json(const std::string& model, int64_t created, int64_t max_positions);

/// The text of a token; one that is no whole UTF-8 is written as bytes:\xe2\x82, as OpenAI does,
/// and an id without a token as token_id:7.
std::string token_text(const policy::Tokenizer& tokenizer, int32_t id);

/// Characters (code points) of valid UTF-8.
int64_t num_characters(std::string_view text);

}  // namespace moerl::openai
