#pragma once
#include <span>
#include <string_view>

namespace moerl::policy {

enum class ChatFamily { kNone, kPlain, kR1Zero, kDeepseek, kDeepseekHybrid, kChatMl, kLlama3 };

/// One way to write a dialogue; the rows of the table are what ChatTemplate::names() lists.
struct ChatStyle {
  std::string_view name;
  ChatFamily family;
  std::string_view opening;         ///< what add_generation_prompt adds
  std::string_view turn_end;        ///< ends the assistant's turn; empty: the model's own EOS
  std::string_view bos;             ///< if the model names none; empty: no BOS
  std::string_view default_system;  ///< where the dialogue begins without one
  bool joins_systems = false;       ///< all system texts, not the last alone (deepseek)
  bool cuts_thinking = false;       ///< past answers lose their thinking
  bool adds_date = false;           ///< the system turn begins with the dates of Llama 3.1
  bool thinks = false;              ///< of a style with two modes: which one
  std::string_view other_mode;      ///< the style with thinking switched the other way
};

std::span<const ChatStyle> chat_styles();

/// The style whose Jinja source this is, or null. Told apart by the pieces of the source that
/// decide what is rendered; a source that lacks one of them is not recognised.
const ChatStyle* recognise_chat_style(std::string_view jinja);

}  // namespace moerl::policy
