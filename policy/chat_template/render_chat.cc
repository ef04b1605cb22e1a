#include "policy/chat_template/render_chat.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "common/check.h"

namespace moerl::policy {
namespace {

using Messages = std::span<const ChatMessage>;

constexpr std::string_view kUser = "<｜User｜>", kAssistant = "<｜Assistant｜>";
constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";
constexpr std::string_view kDates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
std::string_view after_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == text.npos ? text : text.substr(at + mark.size());
}
std::string_view after_first(std::string_view text, std::string_view mark) {
  const size_t at = text.find(mark);
  return at == text.npos ? text : text.substr(at + mark.size());
}
std::string_view before_first(std::string_view text, std::string_view mark) {
  return text.substr(0, text.find(mark));
}
std::string_view strip_newlines(std::string_view text, bool left, bool right) {
  while (left && text.starts_with('\n')) text.remove_prefix(1);
  while (right && text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

/// What Python's str.strip() takes away.
bool is_python_space(UChar32 c) { return u_isUWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view trim(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  int32_t begin = 0, end = size;
  for (int32_t next = 0; begin < size; begin = next) {
    UChar32 c = 0;
    U8_NEXT(bytes, next, size, c);
    if (!is_python_space(c)) break;
  }
  for (int32_t previous = end; end > begin; end = previous) {
    UChar32 c = 0;
    U8_PREV(bytes, 0, previous, c);
    if (!is_python_space(c)) break;
  }
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

std::string system_text(const ChatStyle& style, Messages messages) {
  std::string text;
  bool is_first = true;
  for (const ChatMessage& message : messages) {
    if (message.role != "system") continue;
    if (!style.joins_systems) text.clear();
    if (style.joins_systems && !is_first) text += "\n\n";
    text += message.content;
    is_first = false;
  }
  return text;
}

std::string render_deepseek(const ChatStyle& style, std::string_view bos, Messages messages,
                            bool add_prompt) {
  std::string text = concat(bos, system_text(style, messages));
  for (const ChatMessage& message : messages) {
    if (message.role == "user") text += concat(kUser, message.content);
    if (message.role != "assistant") continue;
    const std::string_view answer =
        style.cuts_thinking ? after_last(message.content, kThinkEnd) : message.content;
    text += concat(kAssistant, answer, style.turn_end);
  }
  return add_prompt ? text.append(style.opening) : text;
}

/// Past answers begin with a closed thought; the marker stands only behind a user's turn.
std::string render_hybrid(const ChatStyle& style, std::string_view bos, Messages messages,
                          bool add_prompt) {
  std::string text = concat(bos, system_text(style, messages));
  bool after_user = false;
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      text += concat(kUser, message.content);
      after_user = true;
    } else if (message.role == "assistant") {
      if (after_user) text += concat(kAssistant, kThinkEnd);
      text += concat(after_first(message.content, kThinkEnd), style.turn_end);
      after_user = false;
    }
  }
  return add_prompt && after_user ? text.append(style.opening) : text;
}

/// Index of the last turn of a user that is no tool's response; of the last message without one.
size_t last_query(Messages messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& text = messages[i].content;
    if (messages[i].role == "user" &&
        !(text.starts_with("<tool_response>") && text.ends_with("</tool_response>")))
      return i;
  }
  return messages.size() - 1;
}

/// Qwen3: thinking is kept in the answers behind the last question, and there always shown in the
/// last one.
std::string qwen3_answer(Messages messages, size_t index) {
  const std::string& whole = messages[index].content;
  std::string_view content = whole, thinking;
  if (has(whole, kThinkEnd)) {
    content = strip_newlines(after_last(whole, kThinkEnd), true, false);
    thinking = strip_newlines(before_first(whole, kThinkEnd), false, true);
    thinking = strip_newlines(after_last(thinking, kThink), true, false);
  }
  const bool is_last = index + 1 == messages.size();
  if (index <= last_query(messages) || !(is_last || !thinking.empty())) return std::string(content);
  return concat(kThink, "\n", strip_newlines(thinking, true, true), "\n", kThinkEnd, "\n\n",
                strip_newlines(content, true, false));
}

std::string render_chat_ml(const ChatStyle& style, Messages messages, bool add_prompt) {
  std::string text;
  const auto add = [&](std::string_view role, std::string_view content) {
    text += concat("<|im_start|>", role, "\n", content, style.turn_end, "\n");
  };
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!has_system && !style.default_system.empty()) add("system", style.default_system);
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "assistant" && style.cuts_thinking)
      add(message.role, qwen3_answer(messages, i));
    else
      add(message.role, message.content);
  }
  return add_prompt ? text.append(style.opening) : text;
}

std::string render_llama3(const ChatStyle& style, std::string_view bos, Messages messages,
                          bool add_prompt) {
  std::string text;
  const auto add = [&](std::string_view role, std::string_view content) {
    text += concat("<|start_header_id|>", role, "<|end_header_id|>\n\n", content, style.turn_end);
  };
  if (style.adds_date) {
    const bool has_system = !messages.empty() && messages[0].role == "system";
    add("system", concat(kDates, has_system ? trim(messages[0].content) : std::string_view()));
    if (has_system) messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) add(message.role, trim(message.content));
  if (add_prompt) text += style.opening;
  // Without a message the plain Llama 3 template has no place for BOS.
  return messages.empty() && !style.adds_date ? text : concat(bos, text);
}

}  // namespace

std::string render_chat(const ChatStyle& style, std::string_view bos_token, Messages messages,
                        bool add_generation_prompt) {
  for (const ChatMessage& message : messages)
    check(message.role == "system" || message.role == "user" || message.role == "assistant",
          "chat template ", style.name, " got role '", message.role,
          "', expected system, user or assistant");
  switch (style.family) {
    case ChatFamily::kDeepseek:
      return render_deepseek(style, bos_token, messages, add_generation_prompt);
    case ChatFamily::kDeepseekHybrid:
      return render_hybrid(style, bos_token, messages, add_generation_prompt);
    case ChatFamily::kChatMl:
      return render_chat_ml(style, messages, add_generation_prompt);
    case ChatFamily::kLlama3:
      return render_llama3(style, bos_token, messages, add_generation_prompt);
    case ChatFamily::kNone:
    case ChatFamily::kPlain:
    case ChatFamily::kR1Zero:
      break;
  }
  throw std::logic_error("internal error: a chat style without turns");
}

}  // namespace moerl::policy
