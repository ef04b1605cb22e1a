#include "policy/chat_template.h"

#include <algorithm>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "policy/chat_template/chat_style.h"
#include "policy/chat_template/render_chat.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;

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

Json parse_config(std::string_view text, const std::string& source) {
  Json config;
  try {
    config = parse_json(text);
  } catch (const Json::exception& error) {
    throw IoError(concat(source, ": not JSON: ", error.what()));
  }
  if (!config.is_object())
    throw IoError(concat(source, ": the root is ", config.type_name(), ", expected an object"));
  return config;
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

ChatTemplate::ChatTemplate(const ChatStyle& style, std::string bos_token)
    : style_(&style), bos_token_(std::move(bos_token)) {
  if (bos_token_.empty()) bos_token_ = style.bos;
}

const std::vector<std::string>& ChatTemplate::names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const ChatStyle& style : chat_styles()) list.emplace_back(style.name);
    return list;
  }();
  return names;
}

ChatTemplate ChatTemplate::named(std::string_view name, std::string bos_token) {
  for (const ChatStyle& style : chat_styles())
    if (style.name == name) return {style, std::move(bos_token)};
  throw ConfigError(concat("chat_template is '", name, "', expected one of ", known_names()));
}

ChatTemplate ChatTemplate::from_jinja(std::string_view jinja, std::string bos_token,
                                      const std::string& source) {
  const ChatStyle* style = recognise_chat_style(jinja);
  if (style == nullptr)
    throw ConfigError(concat(source, ": chat_template is ",
                             jinja.empty() ? "missing" : "not recognised", "; name one of ",
                             known_names()));
  return {*style, std::move(bos_token)};
}

ChatTemplate ChatTemplate::from_tokenizer_config(std::string_view text, const std::string& source) {
  const Json config = parse_config(text, source);
  return from_jinja(jinja_of(config), bos_of(config), source);
}

ChatTemplate ChatTemplate::from_directory(const std::filesystem::path& directory) {
  const std::filesystem::path jinja = directory / "chat_template.jinja";
  const std::filesystem::path config = directory / "tokenizer_config.json";
  const bool has_config = std::filesystem::exists(config);
  if (!std::filesystem::exists(jinja))
    return from_tokenizer_config(has_config ? read_file(config) : "{}", config.string());
  const std::string bos =
      has_config ? bos_of(parse_config(read_file(config), config.string())) : "";
  return from_jinja(read_file(jinja), bos, jinja.string());
}

std::string ChatTemplate::name() const { return std::string(style_->name); }
std::string_view ChatTemplate::turn_end() const { return style_->turn_end; }
bool ChatTemplate::opens_thinking() const {
  return style_->opening.ends_with("<think>") || style_->opening.ends_with("<think>\n");
}

ChatTemplate ChatTemplate::with_thinking(bool thinking) const {
  std::string switched;
  for (const ChatStyle& style : chat_styles()) {
    if (style.other_mode.empty()) continue;
    if ((style.name == name() || style.other_mode == name()) && style.thinks == thinking)
      return {style, bos_token_};
    if (style.thinks) switched += concat(switched.empty() ? "" : ", ", style.name);
  }
  throw ConfigError(
      concat("chat template ", name(), " has no switch for thinking; those that have: ", switched));
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages,
                                 bool add_generation_prompt) const {
  const ChatFamily family = style_->family;
  if (family != ChatFamily::kNone && family != ChatFamily::kPlain && family != ChatFamily::kR1Zero)
    return render_chat(*style_, bos_token_, messages, add_generation_prompt);
  check(messages.size() == 1 && messages[0].role == "user" && add_generation_prompt,
        "chat template ", name(), " got ", messages.size(), " messages",
        messages.empty() ? "" : concat(", the first of role '", messages[0].role, "',"),
        add_generation_prompt ? " with" : " without",
        " generation prompt; expected one message of role 'user' with generation prompt");
  const std::string& content = messages[0].content;
  if (family == ChatFamily::kNone) return content;
  if (family == ChatFamily::kR1Zero)
    return concat(bos_token_, kR1ZeroPreamble, content, kR1ZeroEnd);
  // A prompt file may carry the BOS already; two of them would be out of distribution.
  return content.starts_with(bos_token_) ? content : bos_token_ + content;
}

}  // namespace moerl::policy
