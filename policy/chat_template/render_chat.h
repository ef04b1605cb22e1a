#pragma once
#include <span>
#include <string>
#include <string_view>

#include "policy/chat_template.h"
#include "policy/chat_template/chat_style.h"

namespace moerl::policy {

/// The text of a dialogue in a style of many turns (any but none, plain and r1_zero).
/// @throws std::invalid_argument for a role other than system, user and assistant.
std::string render_chat(const ChatStyle& style, std::string_view bos_token,
                        std::span<const ChatMessage> messages, bool add_generation_prompt);

}  // namespace moerl::policy
