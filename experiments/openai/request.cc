#include "experiments/openai/request.h"

#include <limits>
#include <utility>

#include "common/check.h"
#include "experiments/openai/api_error.h"
#include "experiments/openai/field_reader.h"

namespace moerl::openai {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr double kMaxTemperature = 100;
constexpr int64_t kMaxN = 128;
constexpr size_t kMaxPrompts = 2048;

void read_stop(FieldReader& fields, RequestOptions& out) {
  const Json* value = fields.find("stop");
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > kMaxStops)
    throw bad_field("stop",
                    concat("stop has ", list.size(), " strings, expected at most ", kMaxStops));
  for (const Json& stop : list) {
    const size_t bytes = stop.is_string() ? stop.get_ref<const std::string&>().size() : 0;
    if (bytes == 0 || bytes > kMaxStopBytes)
      throw bad_field("stop", concat("stop holds ", described(stop), ", expected strings of 1 to ",
                                     kMaxStopBytes, " bytes"));
    out.stop.push_back(stop.get<std::string>());
  }
}

void read_stream(FieldReader& fields, RequestOptions& out) {
  out.stream = fields.boolean("stream").value_or(false);
  const Json* value = fields.find("stream_options");
  if (value == nullptr) return;
  if (!out.stream)
    throw bad_field("stream_options", "stream_options is there, expected only if stream is true");
  FieldReader options(*value, "stream_options");
  out.include_usage = options.boolean("include_usage").value_or(false);
  options.ignore("include_obfuscation");
  options.finish();
}

/// Fields of both kinds of requests.
void read_common(FieldReader& fields, RequestOptions& out) {
  out.model = fields.text("model").value_or("");
  SamplingParams& sampling = out.sampling;
  sampling.temperature = fields.number("temperature", 0, kMaxTemperature).value_or(1);
  const Json* top_p = fields.find("top_p");
  sampling.top_p = fields.number("top_p", 0, 1).value_or(1);
  if (top_p != nullptr && static_cast<float>(sampling.top_p) == 0)
    throw bad_field("top_p", concat("top_p is ", described(*top_p), ", expected in (0, 1]"));
  // -1 is vLLM's way to say "all".
  sampling.top_k = std::max<int64_t>(0, fields.integer("top_k", -1, kMaxInt32).value_or(0));
  sampling.min_p = fields.number("min_p", 0, 1, false).value_or(0);
  if (static_cast<float>(sampling.min_p) >= 1)
    throw bad_field("min_p", "min_p is too close to 1, expected a number from 0 to below 1");
  sampling.stop_token_ids = fields.ids("stop_token_ids");
  out.n = fields.integer("n", 1, kMaxN).value_or(1);
  out.seed = fields.seed("seed");
  read_stop(fields, out);
  read_stream(fields, out);
  out.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  out.return_token_ids = fields.boolean("return_token_ids").value_or(false);

  fields.neutral("presence_penalty", {0});
  fields.neutral("frequency_penalty", {0});
  fields.neutral("repetition_penalty", {1});
  fields.neutral("logit_bias", {Json::object()});
  fields.neutral("response_format", {Json{{"type", "text"}}});
  fields.neutral("skip_special_tokens", {true});
  fields.neutral("use_beam_search", {false});
  fields.neutral("min_tokens", {0});
  for (const char* name : {"user", "metadata", "store", "service_tier", "safety_identifier",
                           "prompt_cache_key", "priority", "request_id"})
    fields.ignore(name);
}

/// A string, a list of strings, a list of ids, or a list of such lists.
std::vector<Prompt> read_prompts(FieldReader& fields) {
  const Json* value = fields.find("prompt");
  if (value == nullptr)
    throw bad_field("prompt", "prompt is missing, expected text or token ids, or a list of them");
  if (value->is_string()) return {value->get<std::string>()};
  const auto refuse = [](const std::string& path, const Json& got) {
    throw bad_field(path, concat(path, " is ", described(got),
                                 ", expected text or token ids, or a list of them"));
  };
  if (!value->is_array() || value->empty()) refuse("prompt", *value);
  if (value->front().is_number()) return {read_ids(*value, "prompt")};
  if (value->size() > kMaxPrompts)
    throw bad_field("prompt", concat("prompt holds ", value->size(), " prompts, expected at most ",
                                     kMaxPrompts));
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < value->size(); ++i) {
    const Json& item = (*value)[i];
    const std::string path = concat("prompt[", i, "]");
    if (item.is_string())
      prompts.emplace_back(item.get<std::string>());
    else if (item.is_array())
      prompts.emplace_back(read_ids(item, path));
    else
      refuse(path, item);
  }
  return prompts;
}

/// Text, or a list of parts of which all must be text.
std::string read_content(FieldReader& message) {
  const Json* content = message.find("content");
  const std::string path = message.path_of("content");
  if (content == nullptr) return "";
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array())
    throw bad_field(path, concat(path, " is ", described(*content), ", expected text"));
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    FieldReader part((*content)[i], concat(path, "[", i, "]"));
    part.neutral("type", {"text"});
    const std::optional<std::string> piece = part.text("text");
    if (!piece)
      throw bad_field(part.path_of("text"),
                      concat(part.path_of("text"), " is missing, expected a string"));
    text += *piece;
    part.finish();
  }
  return text;
}

policy::ChatMessage read_message(const Json& value, size_t index) {
  FieldReader fields(value, concat("messages[", index, "]"));
  std::string role = fields.text("role").value_or("");
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant")
    throw bad_field(fields.path_of("role"),
                    concat(fields.path_of("role"), " is ", described(Json(role)),
                           ", expected system, developer, user or assistant"));
  const bool has_content = fields.find("content") != nullptr;
  std::string content = read_content(fields);
  fields.neutral("tool_calls", {Json::array()});
  fields.neutral("type", {"text"});  // lm-eval says so
  for (const char* name : {"name", "refusal", "annotations"}) fields.ignore(name);
  const std::string thought = fields.text("reasoning_content").value_or("");
  if (!has_content && thought.empty())
    throw bad_field(fields.path_of("content"),
                    concat(fields.path_of("content"), " is missing, expected text"));
  if (!thought.empty()) {
    if (role != "assistant")
      throw bad_field(fields.path_of("reasoning_content"),
                      concat(fields.path_of("reasoning_content"), " is there for the role ", role,
                             ", expected for assistant only"));
    // As the model wrote it; the template cuts away what it does not keep.
    content = concat("<think>", thought, "</think>", content);
  }
  fields.finish();
  return {std::move(role), std::move(content)};
}

std::optional<bool> read_thinking(FieldReader& fields) {
  const Json* value = fields.find("chat_template_kwargs");
  if (value == nullptr) return std::nullopt;
  FieldReader kwargs(*value, "chat_template_kwargs");
  const std::optional<bool> enable = kwargs.boolean("enable_thinking"),
                            thinking = kwargs.boolean("thinking");
  kwargs.finish();
  if (enable && thinking && *enable != *thinking)
    throw bad_field("chat_template_kwargs",
                    "chat_template_kwargs has enable_thinking and thinking with different values, "
                    "expected one of them");
  return enable ? enable : thinking;
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view body) {
  const Json object = parse_object(body);
  FieldReader fields(object, "");
  CompletionRequest out;
  read_common(fields, out);
  out.prompts = read_prompts(fields);
  out.echo = fields.boolean("echo").value_or(false);
  out.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  out.max_tokens = fields.integer("max_tokens", 0, kMaxInt32);
  if (out.max_tokens == 0 && !out.echo)
    throw bad_field("max_tokens", "max_tokens is 0, expected at least 1 unless echo is true");
  out.top_log_probs = fields.integer("logprobs", 0, kMaxTopLogProbs);
  fields.neutral("suffix", {""});
  fields.neutral("best_of", {out.n});
  fields.finish();
  return out;
}

ChatRequest parse_chat_request(std::string_view body) {
  const Json object = parse_object(body);
  FieldReader fields(object, "");
  ChatRequest out;
  read_common(fields, out);
  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty())
    throw bad_field("messages",
                    concat("messages is ", messages == nullptr ? "missing" : described(*messages),
                           ", expected a list of at least one message"));
  for (size_t i = 0; i < messages->size(); ++i)
    out.messages.push_back(read_message((*messages)[i], i));
  const std::optional<int64_t> by_old_name = fields.integer("max_tokens", 1, kMaxInt32),
                               by_name = fields.integer("max_completion_tokens", 1, kMaxInt32);
  if (by_old_name && by_name && *by_old_name != *by_name)
    throw bad_field("max_tokens",
                    concat("max_tokens is ", *by_old_name, " and max_completion_tokens is ",
                           *by_name, ", expected one of them"));
  out.max_tokens = by_name ? by_name : by_old_name;
  const bool log_probs = fields.boolean("logprobs").value_or(false);
  const std::optional<int64_t> top = fields.integer("top_logprobs", 0, kMaxTopLogProbs);
  if (top.value_or(0) > 0 && !log_probs)
    throw bad_field("top_logprobs", concat("top_logprobs is ", *top,
                                           " though logprobs is not true, "
                                           "expected both or neither"));
  if (log_probs) out.top_log_probs = top.value_or(0);
  out.thinking = read_thinking(fields);
  out.separate_reasoning = fields.boolean("separate_reasoning").value_or(true);
  fields.neutral("tools", {Json::array()});
  fields.neutral("tool_choice", {"none"});
  fields.neutral("functions", {Json::array()});
  fields.neutral("function_call", {"none"});
  fields.neutral("modalities", {Json::array({"text"})});
  fields.neutral("add_generation_prompt", {true});
  fields.neutral("continue_final_message", {false});
  fields.ignore("parallel_tool_calls");
  fields.finish();
  return out;
}

}  // namespace moerl::openai
