#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::policy {

/// One turn of a dialogue; `role` is system, user or assistant.
struct ChatMessage {
  std::string role;
  std::string content;
};

/// Writes a dialogue as the text that a model was trained on. The rendered text holds the
/// beginning-of-sequence token itself, once, as Tokenizer::encode adds none.
///
///   none         the one user message as it is, without BOS
///   plain        BOS, then the one user message as it is
///   r1_zero      BOS, then a description of a User and an Assistant who thinks inside <think> and
///                answers inside <answer>, then the one user message, in plain text (after
///                DeepSeek-AI 2025, arXiv:2501.12948, table 1, re-worded)
///   deepseek_v3  BOS, the system texts, <｜User｜>…, <｜Assistant｜>…EOS; generation
///   <｜Assistant｜> deepseek_r1  the same, but past answers lose everything up to their last
///   </think>, and
///                generation starts with <｜Assistant｜><think>\n
class ChatTemplate {
 public:
  /// @param name  one of names().
  /// @param bos_token  text of the BOS token. Empty means the model's own for the deepseek
  /// templates
  ///   and no BOS for the others.
  /// @throws ConfigError naming the known templates if `name` is none of them.
  static ChatTemplate named(std::string_view name, std::string bos_token = {});
  /// Recognises the `chat_template` of a `tokenizer_config.json` and takes its `bos_token`.
  /// @param source  how errors call the text, such as the file's path.
  /// @throws IoError if the text is not JSON; ConfigError naming the known templates if it has no
  ///   chat_template or one that is not recognised for certain.
  static ChatTemplate from_tokenizer_config(std::string_view text, const std::string& source);
  static const std::vector<std::string>& names();

  const std::string& name() const { return name_; }

  /// @param add_generation_prompt  ends the text where the assistant's answer begins. The templates
  ///   none, plain and r1_zero always end there, and `false` is refused.
  /// @throws std::invalid_argument if the template has no place for a role or a turn.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  ChatTemplate(std::string name, std::string bos_token);
  std::string render_deepseek(std::span<const ChatMessage> messages, bool add_prompt) const;

  std::string name_;
  std::string bos_token_;
};

}  // namespace moerl::policy
