#include "policy/chat_template/chat_style.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>

namespace moerl::policy {
namespace {

constexpr std::string_view kDeepseekBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kDeepseekEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kImEnd = "<|im_end|>", kImAssistant = "<|im_start|>assistant\n";
constexpr std::string_view kEot = "<|eot_id|>", kLlamaBos = "<|begin_of_text|>";
constexpr std::string_view kLlamaAssistant = "<|start_header_id|>assistant<|end_header_id|>\n\n";
constexpr std::string_view kQwenSystem =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kQwenMathSystem =
    "Please reason step by step, and put your final answer within \\boxed{}.";

constexpr std::array kStyles = {
    ChatStyle{.name = "none", .family = ChatFamily::kNone},
    ChatStyle{.name = "plain", .family = ChatFamily::kPlain},
    ChatStyle{.name = "r1_zero", .family = ChatFamily::kR1Zero},
    ChatStyle{.name = "deepseek_v3",
              .family = ChatFamily::kDeepseek,
              .opening = "<｜Assistant｜>",
              .turn_end = kDeepseekEos,
              .bos = kDeepseekBos,
              .joins_systems = true},
    ChatStyle{.name = "deepseek_r1",
              .family = ChatFamily::kDeepseek,
              .opening = "<｜Assistant｜><think>\n",
              .turn_end = kDeepseekEos,
              .bos = kDeepseekBos,
              .joins_systems = true,
              .cuts_thinking = true},
    ChatStyle{.name = "deepseek_r1_distill",
              .family = ChatFamily::kDeepseek,
              .opening = "<｜Assistant｜><think>\n",
              .turn_end = kDeepseekEos,
              .bos = kDeepseekBos,
              .cuts_thinking = true},
    ChatStyle{.name = "deepseek_v3_1",
              .family = ChatFamily::kDeepseekHybrid,
              .opening = "<｜Assistant｜></think>",
              .turn_end = kDeepseekEos,
              .bos = kDeepseekBos,
              .joins_systems = true,
              .cuts_thinking = true,
              .other_mode = "deepseek_v3_1_thinking"},
    ChatStyle{.name = "deepseek_v3_1_thinking",
              .family = ChatFamily::kDeepseekHybrid,
              .opening = "<｜Assistant｜><think>",
              .turn_end = kDeepseekEos,
              .bos = kDeepseekBos,
              .joins_systems = true,
              .cuts_thinking = true,
              .thinks = true,
              .other_mode = "deepseek_v3_1"},
    ChatStyle{.name = "qwen2_5",
              .family = ChatFamily::kChatMl,
              .opening = kImAssistant,
              .turn_end = kImEnd,
              .default_system = kQwenSystem},
    ChatStyle{.name = "qwen2_5_math",
              .family = ChatFamily::kChatMl,
              .opening = kImAssistant,
              .turn_end = kImEnd,
              .default_system = kQwenMathSystem},
    ChatStyle{.name = "qwen3",
              .family = ChatFamily::kChatMl,
              .opening = kImAssistant,
              .turn_end = kImEnd,
              .cuts_thinking = true,
              .thinks = true,
              .other_mode = "qwen3_no_thinking"},
    ChatStyle{.name = "qwen3_no_thinking",
              .family = ChatFamily::kChatMl,
              .opening = "<|im_start|>assistant\n<think>\n\n</think>\n\n",
              .turn_end = kImEnd,
              .cuts_thinking = true,
              .other_mode = "qwen3"},
    ChatStyle{.name = "qwen3_instruct_2507",
              .family = ChatFamily::kChatMl,
              .opening = kImAssistant,
              .turn_end = kImEnd},
    ChatStyle{.name = "llama3",
              .family = ChatFamily::kLlama3,
              .opening = kLlamaAssistant,
              .turn_end = kEot,
              .bos = kLlamaBos},
    ChatStyle{.name = "llama3_1",
              .family = ChatFamily::kLlama3,
              .opening = kLlamaAssistant,
              .turn_end = kEot,
              .bos = kLlamaBos,
              .adds_date = true},
};

const ChatStyle* style_named(std::string_view name) {
  return std::find_if(kStyles.begin(), kStyles.end(),
                      [&](const ChatStyle& style) { return style.name == name; });
}

/// A source without what does not change its meaning: spaces between tokens, the dashes of tags,
/// the kind of quotes, and whether a newline in a literal is written out or escaped.
std::string canonical(std::string_view jinja) {
  std::string text;
  for (size_t i = 0; i < jinja.size(); ++i) {
    const char c = jinja[i];
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    if (c == '\\' && i + 1 < jinja.size() && (jinja[i + 1] == 'n' || jinja[i + 1] == '\\')) {
      if (jinja[++i] == '\\') text += '\\';
      continue;
    }
    const bool opens = text.size() >= 2 && text[text.size() - 2] == '{' &&
                       (text.back() == '%' || text.back() == '{');
    const bool closes =
        i + 2 < jinja.size() && jinja[i + 2] == '}' && (jinja[i + 1] == '%' || jinja[i + 1] == '}');
    if (c == '-' && (opens || closes)) continue;
    text += c == '"' ? '\'' : c;
  }
  return text;
}

class Source {
 public:
  explicit Source(std::string_view jinja) : raw_(jinja), text_(canonical(jinja)) {}
  bool has(std::string_view part) const { return text_.find(canonical(part)) != text_.npos; }
  bool has_all(std::initializer_list<std::string_view> parts) const {
    return std::all_of(parts.begin(), parts.end(), [this](auto part) { return has(part); });
  }
  bool has_none(std::initializer_list<std::string_view> parts) const {
    return std::none_of(parts.begin(), parts.end(), [this](auto part) { return has(part); });
  }
  /// Newlines count here.
  bool has_exactly(std::string_view part) const { return raw_.find(part) != raw_.npos; }

 private:
  std::string_view raw_;
  std::string text_;
};

std::string_view deepseek(const Source& s) {
  const bool joins = s.has_all({"is_first_sp", "ns.system_prompt + '\\n\\n' + message['content']"});
  const bool keeps_last = s.has("set ns.system_prompt = message['content']");
  if (joins == keeps_last || !s.has("'<｜User｜>' + message['content']")) return "";
  if (!s.has("think")) return joins && s.has("{{'<｜Assistant｜>'}}") ? "deepseek_v3" : "";
  if (s.has("thinking"))
    return joins && s.has_all({"ns.is_last_user", "content.split('</think>', 1)[1]",
                               "{% if not thinking %}{{'</think>'}}{% else %}{{'<think>'}}"})
               ? "deepseek_v3_1"
               : "";
  const bool opens = s.has_exactly("{{'<｜Assistant｜><think>\\n'}}") ||
                     s.has_exactly("{{'<｜Assistant｜><think>\n'}}");
  if (!opens || !s.has("content.split('</think>')[-1]")) return "";
  return joins ? "deepseek_r1" : "deepseek_r1_distill";
}

std::string_view chat_ml(const Source& s) {
  if (!s.has_all({"'<|im_start|>' + message.role + '\\n'", "{{'<|im_start|>assistant\\n'}}",
                  "message.role == 'system' and not loop.first"}))
    return "";
  if (s.has("think"))
    return s.has_all({"enable_thinking is defined and enable_thinking is false",
                      "ns.last_query_index", ".split('</think>')[-1].lstrip('\\n')",
                      "{{'<think>\\n\\n</think>\\n\\n'}}",
                      "loop.last or (not loop.last and reasoning_content)"}) &&
                   !s.has("{{'<|im_start|>assistant\\n<think>\\n'}}")
               ? "qwen3"
               : "";
  if (s.has(std::string("system\\n") + std::string(kQwenSystem) + "<|im_end|>")) return "qwen2_5";
  if (s.has("system\\nPlease reason step by step, and put your final answer within \\\\boxed{}."
            "<|im_end|>"))
    return "qwen2_5_math";
  const bool has_default = s.has("'<|im_start|>system\\nYou");
  return has_default || !s.has("messages[0].role == 'system'") ? "" : "qwen3_instruct_2507";
}

std::string_view llama3(const Source& s) {
  if (!s.has_all({"<|end_header_id|>", "<|eot_id|>", "message['role']", "message['content'] | trim",
                  "bos_token"}))
    return "";
  // A date of the day would make a run depend on when it runs.
  if (s.has("strftime_now")) return "";
  if (s.has("tools"))
    return s.has_all({"set date_string = '26 Jul 2024'", "Cutting Knowledge Date: December 2023\\n",
                      "messages[0]['content'] | trim"})
               ? "llama3_1"
               : "";
  return s.has("loop.index0 == 0") && s.has_none({"Date", "system"}) ? "llama3" : "";
}

}  // namespace

std::span<const ChatStyle> chat_styles() { return kStyles; }

const ChatStyle* recognise_chat_style(std::string_view jinja) {
  const Source source(jinja);
  std::string_view name;
  if (source.has("<｜User｜>"))
    name = deepseek(source);
  else if (source.has("<|im_start|>"))
    name = chat_ml(source);
  else if (source.has("<|start_header_id|>"))
    name = llama3(source);
  return name.empty() ? nullptr : style_named(name);
}

}  // namespace moerl::policy
