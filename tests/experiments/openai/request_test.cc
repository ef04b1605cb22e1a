#include "experiments/openai/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"
#include "experiments/openai/answer_text.h"
#include "experiments/openai/api_error.h"
#include "experiments/openai/reply.h"
#include "tests/experiments/tiny_directory.h"

namespace moerl::openai {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// The error's message, with the field that it names in front.
template <typename Parse>
std::string refusal(const Parse& parse, const std::string& body) {
  try {
    parse(body);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400);
    const json param = parse_json(error.json()).at("error").at("param");
    return (param.is_null() ? "" : param.get<std::string>()) + "|" + error.what();
  }
  ADD_FAILURE() << body << " was accepted";
  return "";
}
std::string completion_refusal(const std::string& body) {
  return refusal(parse_completion_request, body);
}
std::string chat_refusal(const std::string& body) { return refusal(parse_chat_request, body); }

TEST(OpenAiRequestTest, ReadsEveryFieldOfACompletion) {
  const CompletionRequest r = parse_completion_request(
      R"({"model": "m", "prompt": ["a", [1, 2]], "max_tokens": 7, "temperature": 0.5,
          "top_p": 0.9, "top_k": 4, "min_p": 0.1, "n": 3, "stop": ["x", "y"], "seed": -1,
          "stream": true, "stream_options": {"include_usage": true}, "echo": true, "logprobs": 2,
          "stop_token_ids": [5], "ignore_eos": true, "return_token_ids": true, "user": "me",
          "add_special_tokens": false, "suffix": null, "logit_bias": {}, "best_of": 3})");
  EXPECT_EQ(r.model, "m");
  ASSERT_EQ(r.prompts.size(), 2u);
  EXPECT_EQ(std::get<std::string>(r.prompts[0]), "a");
  EXPECT_EQ(std::get<std::vector<int32_t>>(r.prompts[1]), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(r.max_tokens, 7);
  EXPECT_EQ(r.sampling.temperature, 0.5);
  EXPECT_EQ(r.sampling.top_p, 0.9);
  EXPECT_EQ(r.sampling.top_k, 4);
  EXPECT_EQ(r.sampling.min_p, 0.1);
  EXPECT_EQ(r.sampling.stop_token_ids, std::vector<int32_t>{5});
  EXPECT_EQ(r.n, 3);
  EXPECT_EQ(r.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(r.seed, ~uint64_t{0});
  EXPECT_EQ(r.top_log_probs, 2);
  EXPECT_TRUE(r.stream && r.include_usage && r.echo && r.ignore_eos && r.return_token_ids);
  EXPECT_FALSE(r.add_special_tokens);
}

TEST(OpenAiRequestTest, TakesOpenAisDefaults) {
  const CompletionRequest r = parse_completion_request(R"({"prompt": [3, 4], "n": null})");
  EXPECT_EQ(std::get<std::vector<int32_t>>(r.prompts.at(0)), (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(r.sampling.temperature, 1);
  EXPECT_EQ(r.sampling.top_p, 1);
  EXPECT_EQ(r.n, 1);
  EXPECT_FALSE(r.seed || r.max_tokens || r.top_log_probs || r.stream || r.echo);
}

TEST(OpenAiRequestTest, ReadsChats) {
  const ChatRequest r = parse_chat_request(
      R"({"messages": [{"role": "developer", "content": "s"},
                       {"role": "user", "type": "text",
                        "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]},
                       {"role": "assistant", "content": "c", "reasoning_content": "t"}],
          "max_completion_tokens": 4, "logprobs": true,
          "chat_template_kwargs": {"enable_thinking": false}, "metadata": {"k": "v"}})");
  ASSERT_EQ(r.messages.size(), 3u);
  EXPECT_EQ(r.messages[0].role, "system");
  EXPECT_EQ(r.messages[1].content, "ab");
  EXPECT_EQ(r.messages[2].content, "<think>t</think>c");
  EXPECT_EQ(r.max_tokens, 4);
  EXPECT_EQ(r.top_log_probs, 0);
  EXPECT_EQ(r.thinking, false);
}

TEST(OpenAiRequestTest, RefusesNamingFieldGotAndExpected) {
  const struct {
    const char *body, *field, *got;
  } cases[] = {
      {R"({"max_tokens": 1})", "prompt|", "missing"},
      {R"({"prompt": 3})", "prompt|", "is 3"},
      {R"({"prompt": []})", "prompt|", "0 items"},
      {R"({"prompt": [1, "a"]})", "prompt[1]|", "\"a\""},
      {R"({"prompt": [1, -1]})", "prompt[1]|", "-1"},
      {R"({"prompt": [[1], [4294967296]]})", "prompt[1][0]|", "4294967296"},
      {R"({"prompt": "a", "max_tokens": 0})", "max_tokens|", "is 0"},
      {R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens|", "1.5"},
      {R"({"prompt": "a", "max_tokens": 18446744073709551615})", "max_tokens|", "1844"},
      {R"({"prompt": "a", "temperature": -0.1})", "temperature|", "-0.1"},
      {R"({"prompt": "a", "temperature": "hot"})", "temperature|", "\"hot\""},
      {R"({"prompt": "a", "top_p": 0})", "top_p|", "is 0"},
      {R"({"prompt": "a", "top_p": 1e-300})", "top_p|", "1e-300"},
      {R"({"prompt": "a", "min_p": 1})", "min_p|", "is 1"},
      {R"({"prompt": "a", "n": 0})", "n|", "is 0"},
      {R"({"prompt": "a", "seed": 1.0})", "seed|", "1.0"},
      {R"({"prompt": "a", "stop": ""})", "stop|", "\"\""},
      {R"({"prompt": "a", "stop": [1]})", "stop|", "1"},
      {R"({"prompt": "a", "logprobs": 21})", "logprobs|", "21"},
      {R"({"prompt": "a", "logprobs": true})", "logprobs|", "true"},
      {R"({"prompt": "a", "stream": 1})", "stream|", "is 1"},
      {R"({"prompt": "a", "stream_options": {}})", "stream_options|", "only if stream"},
      {R"({"prompt": "a", "logit_bias": {"5": 1}})", "logit_bias|", "1 fields"},
      {R"({"prompt": "a", "presence_penalty": 0.5})", "presence_penalty|", "0.5"},
      {R"({"prompt": "a", "best_of": 2})", "best_of|", "is 2"},
      {R"({"prompt": "a", "guided_json": {}})", "guided_json|", "not supported"},
      {R"({"prompt": "a", "prompt": "b"})", "|", "twice"},
      {R"([1])", "|", "a list of 1 items"},
      {"{\"prompt\": \"\xff\"}", "|", "not JSON"},
      {"", "|", "not JSON"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(completion_refusal(c.body), AllOf(::testing::StartsWith(c.field), HasSubstr(c.got)))
        << c.body;
}

TEST(OpenAiRequestTest, RefusesChatsNamingTheMessage) {
  const auto chat = [](const std::string& message, const std::string& more = "") {
    return chat_refusal(R"({"messages": [{"role": "user", "content": "a"}, )" + message + "]" +
                        more + "}");
  };
  EXPECT_THAT(chat(R"({"role": "tool", "content": "x"})"),
              AllOf(HasSubstr("messages[1].role|"), HasSubstr("\"tool\"")));
  EXPECT_THAT(chat(R"({"role": "user"})"), HasSubstr("messages[1].content is missing"));
  EXPECT_THAT(chat(R"({"role": "user", "content": [{"type": "image_url"}]})"),
              HasSubstr("messages[1].content[0].type|"));
  EXPECT_THAT(chat("3"), HasSubstr("messages[1] is 3"));
  const std::string fine = R"({"role": "user", "content": "b"})";
  EXPECT_THAT(chat(fine, R"(, "tools": [{}])"), HasSubstr("tools|"));
  EXPECT_THAT(chat(fine, R"(, "top_logprobs": 2)"), HasSubstr("though logprobs is not true"));
  EXPECT_THAT(chat(fine, R"(, "max_tokens": 2, "max_completion_tokens": 3)"),
              HasSubstr("max_tokens|"));
  EXPECT_THAT(chat(fine, R"(, "chat_template_kwargs": {"depth": 1})"),
              HasSubstr("chat_template_kwargs.depth|"));
  EXPECT_THAT(chat_refusal(R"({"messages": []})"), HasSubstr("messages|"));
}

TEST(OpenAiRequestTest, ErrorsDoNotRepeatWhatIsLong) {
  const std::string told =
      completion_refusal("{\"prompt\": \"a\", \"seed\": \"" + std::string(100000, 'x') + "\"}");
  EXPECT_LT(told.size(), 200u);
  EXPECT_LT(
      completion_refusal("{\"prompt\": \"a\", \"" + std::string(100000, 'x') + "\": 1}").size(),
      200u);
}

/// All that comes out when a text goes in so many bytes at a time.
std::string through(StopMatcher matcher, const std::string& text, size_t step) {
  std::string out;
  for (size_t i = 0; i < text.size() && !matcher.stopped(); i += step)
    out += matcher.push(text.substr(i, step));
  return out + matcher.finish();
}

TEST(StopMatcherTest, EndsBeforeTheFirstStopHoweverTheTextIsCut) {
  const std::vector<std::string> stops = {"END", "\n\n", "ENC"};
  for (size_t step : {1, 2, 3, 5, 100}) {
    EXPECT_EQ(through(StopMatcher(stops), "one EN two\nENDthree", step), "one EN two\n");
    EXPECT_EQ(through(StopMatcher(stops), "a\n\nEND", step), "a");
    EXPECT_EQ(through(StopMatcher(stops), "EEENCE", step), "EE");
    EXPECT_EQ(through(StopMatcher(stops), "no stop EN", step), "no stop EN");
  }
  StopMatcher matcher(stops);
  EXPECT_EQ(matcher.push("aE"), "a");  // it may go on with ND
  EXPECT_EQ(matcher.push("x"), "Ex");
  EXPECT_FALSE(matcher.stopped());
}

AnswerPiece split(bool starts_inside, const std::string& text, size_t step) {
  ReasoningSplitter splitter(starts_inside);
  AnswerPiece all;
  const auto add = [&](const AnswerPiece& piece) {
    all.reasoning += piece.reasoning;
    all.content += piece.content;
  };
  for (size_t i = 0; i < text.size(); i += step) add(splitter.push(text.substr(i, step)));
  add(splitter.finish());
  return all;
}

TEST(ReasoningSplitterTest, TakesTheThoughtApartHoweverTheTextIsCut) {
  for (size_t step : {1, 2, 3, 7, 100}) {
    AnswerPiece piece = split(false, " <think>\na < b</think>\n\nc</think>", step);
    EXPECT_EQ(piece.reasoning, "\na < b");
    EXPECT_EQ(piece.content, "\n\nc</think>");
    piece = split(true, "x</thin</think>y<think>z", step);
    EXPECT_EQ(piece.reasoning, "x</thin");
    EXPECT_EQ(piece.content, "y<think>z");
    piece = split(false, "no <think>thought</think>", step);
    EXPECT_EQ(piece.reasoning, "");
    EXPECT_EQ(piece.content, "no <think>thought</think>");
    piece = split(false, "<think>cut off</thi", step);
    EXPECT_EQ(piece.reasoning, "cut off</thi");
    EXPECT_EQ(piece.content, "");
    EXPECT_EQ(split(false, "<thi", step).content, "<thi");
  }
}

TEST(OpenAiReplyTest, TokensThatAreNoTextAreNamedByTheirBytes) {
  const auto tokenizer = policy::Tokenizer::from_json(moerl::testing::tiny_tokenizer_json());
  EXPECT_EQ(token_text(tokenizer, *tokenizer.token_id("A")), "A");
  EXPECT_EQ(token_text(tokenizer, *tokenizer.token_id("\xC3")), "bytes:\\xc3");
  EXPECT_EQ(token_text(tokenizer, 265), "token_id:265");
  EXPECT_EQ(num_characters("a\xC3\xA9\xE2\x82\xAC"), 3);
}

TEST(OpenAiReplyTest, PrintsLogProbsThatReadAsTheSameFloats) {
  const auto tokenizer = policy::Tokenizer::from_json(moerl::testing::tiny_tokenizer_json());
  const int32_t a = *tokenizer.token_id("A"), b = *tokenizer.token_id("B");
  const float p = -0.12345679f, q = -1.0e-7f;
  ReplyWriter writer({.id = "i", .model = "m", .top_log_probs = 1}, tokenizer);
  Choice choice{.index = 0, .text = "AB", .finish_reason = "stop"};
  choice.tokens = {{.token = a}, {.token = b, .log_prob = p, .top = {{a, q}}, .text_offset = 1}};
  const json reply = parse_json(writer.whole({choice}, {.prompt_tokens = 1}));
  const json& log_probs = reply["choices"][0]["logprobs"];
  EXPECT_EQ(log_probs["tokens"], (json{"A", "B"}));
  EXPECT_TRUE(log_probs["token_logprobs"][0].is_null() && log_probs["top_logprobs"][0].is_null());
  EXPECT_EQ(log_probs["token_logprobs"][1].get<float>(), p);
  EXPECT_EQ(log_probs["top_logprobs"][1]["A"].get<float>(), q);
  EXPECT_EQ(log_probs["top_logprobs"][1]["B"].get<float>(), p);
  EXPECT_EQ(log_probs["text_offset"], (json{0, 1}));
}

}  // namespace
}  // namespace moerl::openai
