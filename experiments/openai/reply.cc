#include "experiments/openai/reply.h"

#include <algorithm>
#include <cstdio>

#include "common/check.h"
#include "common/json.h"
#include "policy/tokenizer/utf8.h"

namespace moerl::openai {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json log_prob_json(const std::optional<float>& value) {
  return value ? Json(double{*value}) : Json();
}

/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}.
Json completion_log_probs(const std::vector<ToldToken>& tokens, int64_t num_top,
                          const policy::Tokenizer& tokenizer) {
  Json texts = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const ToldToken& token : tokens) {
    texts.push_back(token_text(tokenizer, token.token));
    values.push_back(log_prob_json(token.log_prob));
    offsets.push_back(token.text_offset);
    Json top = token.log_prob ? Json::object() : Json();
    for (const TokenLogProb& t : token.top)
      top.emplace(token_text(tokenizer, t.token), double{t.log_prob});
    if (token.log_prob) top.emplace(token_text(tokenizer, token.token), double{*token.log_prob});
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", num_top > 0 ? std::move(tops) : Json()},
          {"text_offset", std::move(offsets)}};
}

Json chat_token(int32_t id, float log_prob, const policy::Tokenizer& tokenizer) {
  Json bytes = Json::array();
  if (tokenizer.has_token(id))
    for (char c : tokenizer.token_bytes(id)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", token_text(tokenizer, id)},
          {"logprob", double{log_prob}},
          {"bytes", std::move(bytes)}};
}

Json chat_log_probs(const std::vector<ToldToken>& tokens, const policy::Tokenizer& tokenizer) {
  Json content = Json::array();
  for (const ToldToken& token : tokens) {
    Json item = chat_token(token.token, token.log_prob.value_or(0), tokenizer);
    item["top_logprobs"] = Json::array();
    for (const TokenLogProb& t : token.top)
      item["top_logprobs"].push_back(chat_token(t.token, t.log_prob, tokenizer));
    content.push_back(std::move(item));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json head(const ReplyFormat& format, const char* object) {
  return {{"id", format.id},
          {"object", object},
          {"created", format.created},
          {"model", format.model},
          {"system_fingerprint", format.fingerprint}};
}

void add_common(const ReplyFormat& format, const Choice& choice, bool with_prompt,
                const policy::Tokenizer& tokenizer, Json& out) {
  if (!format.top_log_probs)
    out["logprobs"] = nullptr;
  else if (format.is_chat)
    out["logprobs"] = chat_log_probs(choice.tokens, tokenizer);
  else
    out["logprobs"] = completion_log_probs(choice.tokens, *format.top_log_probs, tokenizer);
  out["finish_reason"] = choice.finish_reason.empty() ? Json() : Json(choice.finish_reason);
  if (!format.return_token_ids) return;
  if (with_prompt) out["prompt_token_ids"] = choice.prompt_token_ids;
  out["token_ids"] = choice.token_ids;
}

}  // namespace

std::string ReplyWriter::whole(const std::vector<Choice>& choices, const Usage& usage) const {
  Json reply = head(format_, format_.is_chat ? "chat.completion" : "text_completion");
  reply["choices"] = Json::array();
  for (const Choice& choice : choices) {
    Json item = {{"index", choice.index}};
    if (format_.is_chat) {
      item["message"] = {{"role", "assistant"}, {"content", choice.text}};
      if (!choice.reasoning.empty()) item["message"]["reasoning_content"] = choice.reasoning;
    } else {
      item["text"] = choice.text;
    }
    add_common(format_, choice, true, tokenizer_, item);
    reply["choices"].push_back(std::move(item));
  }
  reply["usage"] = usage_json(usage);
  reply["seed"] = format_.seed;
  return dump(reply);
}

std::string ReplyWriter::chunk(const Choice& added, bool first) const {
  Json reply = head(format_, format_.is_chat ? "chat.completion.chunk" : "text_completion");
  Json item = {{"index", added.index}};
  if (format_.is_chat) {
    Json delta = Json::object();
    if (first) delta["role"] = "assistant";
    if (!added.reasoning.empty()) delta["reasoning_content"] = added.reasoning;
    if (first || !added.text.empty()) delta["content"] = added.text;
    item["delta"] = std::move(delta);
  } else {
    item["text"] = added.text;
  }
  add_common(format_, added, first, tokenizer_, item);
  reply["choices"] = Json::array({std::move(item)});
  if (format_.include_usage) reply["usage"] = nullptr;
  return dump(reply);
}

std::string ReplyWriter::usage_chunk(const Usage& usage) const {
  Json reply = head(format_, format_.is_chat ? "chat.completion.chunk" : "text_completion");
  reply["choices"] = Json::array();
  reply["usage"] = usage_json(usage);
  return dump(reply);
}

std::string model_json(const std::string& model, int64_t created, int64_t max_positions) {
  return dump({{"id", model},
               {"object", "model"},
               {"created", created},
               {"owned_by", "moerl"},
               {"max_model_len", max_positions}});
}

std::string models_json(const std::string& model, int64_t created, int64_t max_positions) {
  return concat(R"({"object":"list","data":[)", model_json(model, created, max_positions), "]}");
}

std::string token_text(const policy::Tokenizer& tokenizer, int32_t id) {
  if (!tokenizer.has_token(id)) return concat("token_id:", id);
  const std::string_view bytes = tokenizer.token_bytes(id);
  if (policy::valid_utf8_prefix(bytes) == bytes.size()) return std::string(bytes);
  std::string text = "bytes:";
  char hex[8];
  for (char c : bytes) {
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
    text += hex;
  }
  return text;
}

int64_t num_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace moerl::openai
