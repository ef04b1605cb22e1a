#include "policy/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/check.h"
#include "common/error.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kThinkEnd = "</think>";

constexpr std::string_view kR1ZeroPreamble =
    "The following is a dialogue of a User and an Assistant. The User poses a problem and the "
    "Assistant solves it. It first works through the problem in its mind and afterwards states the "
    "answer. Thought and answer stand inside <think> </think> and <answer> </answer>, like this: "
    "<think> thought goes here </think> <answer> answer goes here </answer>. User: ";
constexpr std::string_view kR1ZeroEnd = ". Assistant:";

std::string known_names() {
  std::string list;
  for (const std::string& name : ChatTemplate::names())
    list += concat(list.empty() ? "" : ", ", name);
  return list;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The template's name, or empty if the Jinja source is not one of those that are known to render
/// as render() does.
std::string recognise(std::string_view jinja) {
  // Templates without is_first_sp keep the last system text instead of joining all.
  for (std::string_view part : {kUser, kAssistant, std::string_view("is_first_sp")})
    if (!has(jinja, part)) return "";
  if (!has(jinja, "think")) return "deepseek_v3";
  // A `thinking` switch belongs to the hybrid models, whose prompt is another.
  if (has(jinja, "thinking") || !has(jinja, "split('</think>')[-1]")) return "";
  // Jinja text holds backslash and n; a loader may have made them the newline already.
  const bool opens_think =
      has(jinja, "<｜Assistant｜><think>\\n") || has(jinja, "<｜Assistant｜><think>\n");
  return opens_think ? "deepseek_r1" : "";
}

/// `chat_template` is text, or a list of {name, template} of which "default" is the one to use.
std::string jinja_of(const Json& config) {
  const auto item = config.find("chat_template");
  if (item == config.end()) return "";
  if (item->is_string()) return item->get<std::string>();
  if (!item->is_array()) return "";
  for (const Json& entry : *item) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.value("template", Json()).is_string())
      return entry["template"].get<std::string>();
  }
  return "";
}

std::string bos_of(const Json& config) {
  const auto item = config.find("bos_token");
  if (item == config.end()) return "";
  if (item->is_string()) return item->get<std::string>();
  if (item->is_object() && item->value("content", Json()).is_string())
    return (*item)["content"].get<std::string>();
  return "";
}

}  // namespace

ChatTemplate::ChatTemplate(std::string name, std::string bos_token)
    : name_(std::move(name)), bos_token_(std::move(bos_token)) {}

const std::vector<std::string>& ChatTemplate::names() {
  static const std::vector<std::string> names = {"none", "plain", "r1_zero", "deepseek_v3",
                                                 "deepseek_r1"};
  return names;
}

ChatTemplate ChatTemplate::named(std::string_view name, std::string bos_token) {
  if (std::find(names().begin(), names().end(), name) == names().end())
    throw ConfigError(concat("chat_template is '", name, "', expected one of ", known_names()));
  if (name.starts_with("deepseek") && bos_token.empty()) bos_token = kBos;
  return {std::string(name), std::move(bos_token)};
}

ChatTemplate ChatTemplate::from_tokenizer_config(std::string_view text, const std::string& source) {
  Json config;
  try {
    config = Json::parse(text.begin(), text.end());
  } catch (const Json::exception& error) {
    throw IoError(concat(source, ": not JSON: ", error.what()));
  }
  if (!config.is_object())
    throw IoError(concat(source, ": the root is ", config.type_name(), ", expected an object"));
  const std::string jinja = jinja_of(config);
  const std::string name = recognise(jinja);
  if (name.empty())
    throw ConfigError(concat(source, ": chat_template is ",
                             jinja.empty() ? "missing" : "not recognised",
                             "; name it in the recipe, one of ", known_names()));
  return named(name, bos_of(config));
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages,
                                 bool add_generation_prompt) const {
  if (name_.starts_with("deepseek")) return render_deepseek(messages, add_generation_prompt);
  check(messages.size() == 1 && messages[0].role == "user" && add_generation_prompt,
        "chat template ", name_, " got ", messages.size(), " messages",
        messages.empty() ? "" : concat(", the first of role '", messages[0].role, "',"),
        add_generation_prompt ? " with" : " without",
        " generation prompt; expected one message of role 'user' with generation prompt");
  const std::string& content = messages[0].content;
  if (name_ == "none") return content;
  if (name_ == "r1_zero") return concat(bos_token_, kR1ZeroPreamble, content, kR1ZeroEnd);
  // A prompt file may carry the BOS already; two of them would be out of distribution.
  return content.starts_with(bos_token_) ? content : bos_token_ + content;
}

std::string ChatTemplate::render_deepseek(std::span<const ChatMessage> messages,
                                          bool add_prompt) const {
  const bool thinks = name_ == "deepseek_r1";
  std::string system, turns;
  bool is_first_system = true;
  for (const ChatMessage& message : messages) {
    std::string_view content = message.content;
    if (message.role == "system") {
      system += concat(is_first_system ? "" : "\n\n", content);
      is_first_system = false;
    } else if (message.role == "user") {
      turns += concat(kUser, content);
    } else if (message.role == "assistant") {
      const size_t end = content.rfind(kThinkEnd);
      if (thinks && end != std::string_view::npos) content.remove_prefix(end + kThinkEnd.size());
      turns += concat(kAssistant, content, kEos);
    } else {
      check(false, "chat template ", name_, " got role '", message.role,
            "', expected system, user or assistant");
    }
  }
  const std::string_view prompt = thinks ? "<｜Assistant｜><think>\n" : kAssistant;
  return concat(bos_token_, system, turns, add_prompt ? prompt : "");
}

}  // namespace moerl::policy
