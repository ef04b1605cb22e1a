#include "policy/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/error.h"

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
    if (name == "none") continue;
    const std::string text = ChatTemplate::named(name, "<bos>").render(kQuestion, true);
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
                 "deepseek_r1");
  }
  EXPECT_THROW(ChatTemplate::named("deepseek_v3").render(Messages{{"tool", "x"}}, true),
               std::invalid_argument);
}

// The parts of the published Jinja sources that tell them apart.
const std::string kJinjaStart =
    "{% set ns = namespace(is_first=false, system_prompt='', is_first_sp=true) %}{{ bos_token }}"
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

TEST(ChatTemplateTest, RecognisesPublishedTemplates) {
  EXPECT_EQ(recognised(kJinjaV3), "deepseek_v3");
  EXPECT_EQ(recognised(kJinjaR1), "deepseek_r1");
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
  for (const Json& chat_template : {Json(unforced), Json(hybrid), Json(keeps_thoughts),
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

}  // namespace
}  // namespace moerl::policy
