#include "policy/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "testing/paths.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;
using Messages = std::vector<ChatMessage>;

const Messages kQuestion = {{"user", "What is 1+1?"}};
const Messages kDialogue = {{"system", "Be brief."},
                            {"user", "Hi"},
                            {"assistant", "<think>greet</think>Hello"},
                            {"system", "In English."},
                            {"user", "Bye"}};

TEST(ChatTemplateTest, DeepSeekV3JoinsSystemTextsAndMarksTurns) {
  const ChatTemplate chat = ChatTemplate::named("deepseek_v3");
  EXPECT_EQ(chat.render(kDialogue, true),
            "<｜begin▁of▁sentence｜>Be brief.\n\nIn "
            "English.<｜User｜>Hi<｜Assistant｜><think>greet</think>"
            "Hello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>");
  EXPECT_EQ(chat.render(kQuestion, false), "<｜begin▁of▁sentence｜><｜User｜>What is 1+1?");
}

TEST(ChatTemplateTest, DeepSeekR1CutsPastThoughtsAndOpensANewOne) {
  const ChatTemplate chat = ChatTemplate::named("deepseek_r1");
  EXPECT_EQ(chat.render(kDialogue, true),
            "<｜begin▁of▁sentence｜>Be brief.\n\nIn English.<｜User｜>Hi<｜Assistant｜>Hello"
            "<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜><think>\n");
  EXPECT_EQ(chat.render(Messages{{"assistant", "a</think>b</think>c"}}, false),
            "<｜begin▁of▁sentence｜><｜Assistant｜>c<｜end▁of▁sentence｜>");
}

TEST(ChatTemplateTest, PlainTemplatesTakeOneQuestion) {
  EXPECT_EQ(ChatTemplate::named("none", "<bos>").render(kQuestion, true), "What is 1+1?");
  EXPECT_EQ(ChatTemplate::named("plain").render(kQuestion, true), "What is 1+1?");
  EXPECT_EQ(ChatTemplate::named("plain", "<bos>").render(kQuestion, true), "<bos>What is 1+1?");
  const std::string zero = ChatTemplate::named("r1_zero", "<bos>").render(kQuestion, true);
  EXPECT_THAT(zero, testing::StartsWith("<bos>The following is a dialogue"));
  EXPECT_THAT(zero, testing::HasSubstr("<think> thought goes here </think> <answer> answer goes "
                                       "here </answer>. "));
  EXPECT_THAT(zero, testing::EndsWith("User: What is 1+1?. Assistant:"));
  for (const char* name : {"none", "plain", "r1_zero"}) {
    const ChatTemplate chat = ChatTemplate::named(name);
    EXPECT_THROW(chat.render(kDialogue, true), std::invalid_argument);
    EXPECT_THROW(chat.render(kQuestion, false), std::invalid_argument);
    EXPECT_THROW(chat.render(Messages{{"assistant", "x"}}, true), std::invalid_argument);
    EXPECT_THROW(chat.render({}, true), std::invalid_argument);
  }
}

TEST(ChatTemplateTest, BosStandsExactlyOnce) {
  const auto count = [](std::string_view text, std::string_view part) {
    int n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
  };
  for (const std::string& name : ChatTemplate::names()) {
    const std::string text = ChatTemplate::named(name, "<bos>").render(kQuestion, true);
    if (name == "none" || name.starts_with("qwen")) {
      EXPECT_EQ(count(text, "<bos>"), 0) << name;
      continue;
    }
    EXPECT_EQ(count(text, "<bos>"), 1) << name;
    EXPECT_TRUE(text.starts_with("<bos>")) << name;
  }
  EXPECT_EQ(ChatTemplate::named("plain", "<bos>").render(Messages{{"user", "<bos>x"}}, true),
            "<bos>x");
}

TEST(ChatTemplateTest, RefusesUnknownNamesAndRoles) {
  try {
    ChatTemplate::named("chatml");
    ADD_FAILURE() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "chat_template is 'chatml', expected one of none, plain, r1_zero, deepseek_v3, "
                 "deepseek_r1, deepseek_r1_distill, deepseek_v3_1, deepseek_v3_1_thinking, "
                 "qwen2_5, qwen2_5_math, qwen3, qwen3_no_thinking, qwen3_instruct_2507, llama3, "
                 "llama3_1");
  }
  EXPECT_THROW(ChatTemplate::named("deepseek_v3").render(Messages{{"tool", "x"}}, true),
               std::invalid_argument);
}

// The parts of the published Jinja sources that tell them apart.
const std::string kJinjaStart =
    "{% set ns = namespace(is_first=false, system_prompt='', is_first_sp=true) %}"
    "{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{{ bos_token }}"
    "{{'<｜User｜>' + message['content']}}";
const std::string kJinjaV3 =
    kJinjaStart + "{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}";
const std::string kJinjaR1 =
    kJinjaStart +
    "{% set content = content.split('</think>')[-1] %}{{'<｜Assistant｜>' + content}}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}";

std::string recognised(const Json& chat_template) {
  const Json config = {{"bos_token", {{"content", "<B>"}}}, {"chat_template", chat_template}};
  return ChatTemplate::from_tokenizer_config(config.dump(), "c.json").name();
}

const std::string kJinjaHybrid =
    kJinjaStart +
    "{%- set content = content.split('</think>', 1)[1] -%}{%- if ns.is_last_user -%}"
    "{%- if not thinking -%}{{'</think>'}}\n  {%- else -%}{{'<think>'}}\n{%- endif -%}";
const std::string kJinjaChatMl =
    "{%- if messages[0].role == 'system' %}{%- endif %}"
    "{%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content }}{{- '<|im_start|>assistant\\n' }}";
const std::string kJinjaQwen3 = kJinjaChatMl +
                                "{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
                                "{%- if loop.index0 > ns.last_query_index %}"
                                "{%- if loop.last or (not loop.last and reasoning_content) %}"
                                "{%- if enable_thinking is defined and enable_thinking is false %}"
                                "{{- '<think>\\n\\n</think>\\n\\n' }}";
const std::string kJinjaLlama3 =
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% if loop.index0 == 0 %}{{ bos_token }}";
const std::string kJinjaLlama31 = kJinjaLlama3 +
                                  "{%- set date_string = \"26 Jul 2024\" %}{%- set tools = none %}"
                                  "{%- set system_message = messages[0]['content']|trim %}"
                                  "{{- \"Cutting Knowledge Date: December 2023\\n\" }}";

TEST(ChatTemplateTest, RecognisesPublishedTemplates) {
  EXPECT_EQ(recognised(kJinjaV3), "deepseek_v3");
  EXPECT_EQ(recognised(kJinjaR1), "deepseek_r1");
  const std::string distill =
      "{%- set ns.system_prompt = message['content'] -%}{{'<｜User｜>' + message['content']}}" +
      kJinjaR1.substr(kJinjaStart.size());
  EXPECT_EQ(recognised(distill), "deepseek_r1_distill");
  EXPECT_EQ(recognised(kJinjaHybrid), "deepseek_v3_1");
  EXPECT_EQ(recognised(kJinjaChatMl + "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba "
                                      "Cloud. You are a helpful assistant.<|im_end|>\\n' }}"),
            "qwen2_5");
  EXPECT_EQ(
      recognised(kJinjaChatMl + "{{- '<|im_start|>system\\nPlease reason step by step, and put "
                                "your final answer within \\\\boxed{}.<|im_end|>\\n' }}"),
      "qwen2_5_math");
  EXPECT_EQ(recognised(kJinjaQwen3), "qwen3");
  EXPECT_EQ(recognised(kJinjaChatMl), "qwen3_instruct_2507");
  EXPECT_EQ(recognised(kJinjaLlama3), "llama3");
  EXPECT_EQ(recognised(kJinjaLlama31), "llama3_1");
  EXPECT_EQ(recognised(Json::array({{{"name", "tool_use"}, {"template", "x"}},
                                    {{"name", "default"}, {"template", kJinjaR1}}})),
            "deepseek_r1");
  const Json config = {{"bos_token", "<B>"}, {"chat_template", kJinjaV3}};
  EXPECT_EQ(ChatTemplate::from_tokenizer_config(config.dump(), "c").render(kQuestion, false),
            "<B><｜User｜>What is 1+1?");
}

TEST(ChatTemplateTest, RefusesTemplatesThatItMightGetWrong) {
  const std::string unforced = kJinjaStart +
                               "{% set content = content.split('</think>')[-1] %}"
                               "{{'<｜Assistant｜>'}}";
  const std::string hybrid = kJinjaR1 + "{% if thinking %}{% endif %}";
  const std::string keeps_thoughts = kJinjaStart + "{{'<｜Assistant｜><think>\\n'}}";
  const std::string another_system =
      kJinjaChatMl + "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}";
  const std::string keeps_all_thoughts = kJinjaChatMl + "{% if enable_thinking %}";
  const std::string date_of_the_day = kJinjaLlama31 + "{{ strftime_now('%d %b %Y') }}";
  for (const Json& chat_template :
       {Json(unforced), Json(hybrid), Json(keeps_thoughts), Json(another_system),
        Json(keeps_all_thoughts), Json(date_of_the_day), Json(kJinjaLlama3 + "{% if tools %}"),
        Json("<|im_start|>"), Json(""), Json(), Json(5)}) {
    try {
      recognised(chat_template);
      ADD_FAILURE() << "accepted " << chat_template;
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("c.json: chat_template is"),
                                               testing::HasSubstr("plain, r1_zero")));
    }
  }
  EXPECT_THROW(ChatTemplate::from_tokenizer_config("{", "c.json"), IoError);
  EXPECT_THROW(ChatTemplate::from_tokenizer_config("[]", "c.json"), IoError);
}

TEST(ChatTemplateTest, RendersAsTransformersDoes) {
  const Json golden = parse_json(read_file(std::filesystem::path(MOERL_SOURCE_DIR) /
                                           "tests/golden/chat_template_golden.json"));
  ASSERT_EQ(golden["templates"].size(), 10u);
  for (const auto& [name, expected] : golden["templates"].items()) {
    const ChatTemplate chat = ChatTemplate::named(name);
    for (size_t i = 0; i < golden["dialogues"].size(); ++i) {
      Messages messages;
      for (const Json& message : golden["dialogues"][i])
        messages.push_back({message["role"], message["content"]});
      for (bool add : {false, true})
        EXPECT_EQ(chat.render(messages, add), expected["texts"][i][add]) << name << " " << i;
    }
  }
}

TEST(ChatTemplateTest, SwitchesThinking) {
  const auto switched = [](const char* name, bool thinking) {
    return ChatTemplate::named(name).with_thinking(thinking).name();
  };
  EXPECT_EQ(switched("deepseek_v3_1", true), "deepseek_v3_1_thinking");
  EXPECT_EQ(switched("deepseek_v3_1", false), "deepseek_v3_1");
  EXPECT_EQ(switched("deepseek_v3_1_thinking", false), "deepseek_v3_1");
  EXPECT_EQ(switched("qwen3", false), "qwen3_no_thinking");
  EXPECT_EQ(switched("qwen3_no_thinking", true), "qwen3");
  EXPECT_THROW(switched("deepseek_r1", false), ConfigError);
  EXPECT_TRUE(ChatTemplate::named("deepseek_r1").opens_thinking());
  EXPECT_TRUE(ChatTemplate::named("deepseek_v3_1_thinking").opens_thinking());
  EXPECT_FALSE(ChatTemplate::named("deepseek_v3_1").opens_thinking());
  EXPECT_FALSE(ChatTemplate::named("qwen3_no_thinking").opens_thinking());
  EXPECT_EQ(ChatTemplate::named("qwen3").turn_end(), "<|im_end|>");
}

TEST(ChatTemplateTest, ADirectorysJinjaFileGoesFirst) {
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / concat("moerl_chat_template_", ::getpid());
  std::filesystem::create_directories(directory);
  EXPECT_THROW(ChatTemplate::from_directory(directory), ConfigError);
  write_file_atomic(directory / "tokenizer_config.json",
                    Json{{"bos_token", "<B>"}, {"chat_template", kJinjaV3}}.dump());
  EXPECT_EQ(ChatTemplate::from_directory(directory).name(), "deepseek_v3");
  write_file_atomic(directory / "chat_template.jinja", kJinjaR1);
  const ChatTemplate chat = ChatTemplate::from_directory(directory);
  EXPECT_EQ(chat.name(), "deepseek_r1");
  EXPECT_TRUE(chat.render(kQuestion, true).starts_with("<B><｜User｜>"));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace moerl::policy
