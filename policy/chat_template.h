#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::policy {

struct ChatStyle;

/// One turn of a dialogue; `role` is system, user or assistant.
struct ChatMessage {
  std::string role;
  std::string content;
};

/// Writes a dialogue as the text that a model was trained on, as the published Jinja template of
/// that model does. The rendered text holds the beginning-of-sequence token itself, once, as
/// Tokenizer::encode adds none. Tools are not rendered.
///
///   none         the one user message as it is, without BOS
///   plain        BOS, then the one user message as it is
///   r1_zero      BOS, then a description of a User and an Assistant who thinks inside <think> and
///                answers inside <answer>, then the one user message, in plain text (after
///                DeepSeek-AI 2025, arXiv:2501.12948, table 1, re-worded)
///   deepseek_v3  BOS, the system texts, <｜User｜>…, <｜Assistant｜>…EOS
///   deepseek_r1  the same, but past answers lose everything up to their last </think>, and the
///                answer starts with <｜Assistant｜><think>\n; deepseek_r1_distill keeps the last
///                system text alone
///   deepseek_v3_1, deepseek_v3_1_thinking  the answer starts behind </think>, or with <think>
///   qwen2_5, qwen2_5_math, qwen3_instruct_2507  ChatML; the first two with a default system text
///   qwen3, qwen3_no_thinking  ChatML; thinking is kept behind the last question only; the second
///                starts the answer behind an empty thought
///   llama3, llama3_1  the second with its dates (fixed: 26 Jul 2024) in the system turn
class ChatTemplate {
 public:
  /// @param name  one of names().
  /// @param bos_token  text of the BOS token. Empty means the model's own for the deepseek and
  ///   llama templates and no BOS for the others. ChatML has none whatever is given.
  /// @throws ConfigError naming the known templates if `name` is none of them.
  static ChatTemplate named(std::string_view name, std::string bos_token = {});
  /// Recognises a Jinja source.
  /// @param source  how errors call the text, such as the file's path.
  /// @throws ConfigError naming the known templates if it is not recognised for certain.
  static ChatTemplate from_jinja(std::string_view jinja, std::string bos_token,
                                 const std::string& source);
  /// Recognises the `chat_template` of a `tokenizer_config.json` and takes its `bos_token`.
  /// @throws IoError if the text is not JSON; ConfigError naming the known templates if it has no
  ///   chat_template or one that is not recognised for certain.
  static ChatTemplate from_tokenizer_config(std::string_view text, const std::string& source);
  /// The template of a Hugging Face directory: its chat_template.jinja, else tokenizer_config.json.
  /// @throws as from_tokenizer_config.
  static ChatTemplate from_directory(const std::filesystem::path& directory);
  static const std::vector<std::string>& names();

  std::string name() const;
  /// Ends the assistant's turn, such as <|im_end|>; empty if the template has no turns.
  std::string_view turn_end() const;
  /// True if the answer begins inside an opened <think>.
  bool opens_thinking() const;
  /// The same template with thinking on or off.
  /// @throws ConfigError if it has no such switch.
  ChatTemplate with_thinking(bool thinking) const;

  /// @param add_generation_prompt  ends the text where the assistant's answer begins. The templates
  ///   none, plain and r1_zero always end there, and `false` is refused.
  /// @throws std::invalid_argument if the template has no place for a role or a turn.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  ChatTemplate(const ChatStyle& style, std::string bos_token);

  const ChatStyle* style_;
  std::string bos_token_;
};

}  // namespace moerl::policy
