// Answers of a live server against the engine and the scorer, asked directly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "policy/token_scores.h"
#include "tests/experiments/openai/running_server.h"

namespace moerl::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class CompletionsTest : public ::testing::Test {
 protected:
  /// What the engine samples for the request; by (prompt, sample).
  std::map<std::pair<uint64_t, int64_t>, Completion> sampled(GenerateRequest request) {
    ExecContext ctx{1};
    Engine engine(*running.model.transformer, {.num_kv_blocks = 256}, ctx);
    std::map<std::pair<uint64_t, int64_t>, Completion> out;
    engine.submit(std::move(request), {.on_completion = [&](Completion c) {
                    out[{c.prompt_id, c.sample_index}] = std::move(c);
                  }});
    while (engine.step()) {
    }
    return out;
  }
  std::vector<int32_t> encode(const std::string& text) {
    return running.model.need_tokenizer().encode_framed(text);
  }
  std::string decode(const std::vector<int32_t>& ids) {
    return running.model.need_tokenizer().tokenizer.decode(ids, /*skip_special=*/true);
  }
  RunningServer running;
};

TEST_F(CompletionsTest, GivesTheTokensAndLogProbsOfTheEngine) {
  const json reply =
      running
          .complete(R"({"prompt": ["Hi", "Ho, ho"], "n": 2, "seed": 7, "max_tokens": 20,
                      "temperature": 0.8, "top_k": 30, "logprobs": 2, "return_token_ids": true})")
          .json();
  GenerateRequest request;
  request.prompts = {{0, encode("Hi")}, {1, encode("Ho, ho")}};
  request.group_size = 2;
  request.seed = 7;
  request.sampling = {.temperature = 0.8, .top_k = 30, .max_tokens = 20, .stop_token_ids = {1}};
  const auto expected = sampled(request);
  ASSERT_EQ(reply["choices"].size(), 4u);
  int64_t tokens = 0;
  for (const json& choice : reply["choices"]) {
    const int64_t index = choice["index"].get<int64_t>();
    const Completion& completion = expected.at({static_cast<uint64_t>(index / 2), index % 2});
    tokens += static_cast<int64_t>(completion.token_ids.size());
    EXPECT_EQ(choice["token_ids"].get<std::vector<int32_t>>(), completion.token_ids);
    EXPECT_EQ(choice["logprobs"]["token_logprobs"].get<std::vector<float>>(), completion.log_probs);
    EXPECT_EQ(choice["text"], decode(completion.token_ids));
    for (size_t i = 0; i < completion.log_probs.size(); ++i) {
      const json& top = choice["logprobs"]["top_logprobs"][i];
      EXPECT_GE(top.size(), 2u);
      EXPECT_EQ(top[choice["logprobs"]["tokens"][i].get<std::string>()].get<float>(),
                completion.log_probs[i]);
    }
  }
  EXPECT_EQ(reply["usage"]["completion_tokens"], tokens);
  EXPECT_EQ(reply["usage"]["prompt_tokens"], 8);
  EXPECT_EQ(reply["seed"], 7);
}

TEST_F(CompletionsTest, EchoGivesTheBitsOfScore) {
  const std::vector<std::vector<int32_t>> prompts = {{9, 40, 41, 42, 77}, {50, 3}};
  const auto scores =
      score_tokens(running.ctx, *running.model.transformer, prompts, {.num_top = 1});
  for (int max_tokens : {0, 1}) {
    const json reply =
        running
            .complete(
                R"({"prompt": [[9,40,41,42,77],[50,3]], "echo": true, "logprobs": 1, "max_tokens": )" +
                std::to_string(max_tokens) + "}")
            .json();
    for (size_t p = 0; p < 2; ++p) {
      const json& log_probs = reply["choices"][p]["logprobs"];
      const size_t n = prompts[p].size();
      ASSERT_EQ(log_probs["tokens"].size(), n + static_cast<size_t>(max_tokens));
      EXPECT_TRUE(log_probs["token_logprobs"][0].is_null());
      float best = 0;
      for (size_t i = 1; i < n; ++i) {
        EXPECT_EQ(log_probs["token_logprobs"][i].get<float>(), scores[p].log_probs[i - 1]);
        best = -1e9f;
        for (const json& value : log_probs["top_logprobs"][i])
          best = std::max(best, value.get<float>());
        EXPECT_EQ(best, scores[p].top[i - 1][0].log_prob);
        EXPECT_GE(log_probs["text_offset"][i], log_probs["text_offset"][i - 1]);
      }
      if (max_tokens == 0) {
        EXPECT_EQ(reply["choices"][p]["text"], decode(prompts[p]));
      }
    }
  }
}

TEST_F(CompletionsTest, LimitsTheLogProbsOfOneAnswer) {
  const auto ask = [&](int prompts, int top) {
    const std::string ids = json(std::vector<int>(4000, 3)).dump();
    std::string list = ids;
    for (int i = 1; i < prompts; ++i) list += "," + ids;
    return running.complete("{\"prompt\": [" + list + R"(], "max_tokens": 0, "echo": true)" +
                            ", \"logprobs\": " + std::to_string(top) + "}");
  };
  const HttpAnswer refused = ask(7, 20);
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr("588000 log-probs, expected at most 524288"));
  EXPECT_EQ(ask(1, 20).json()["choices"][0]["logprobs"]["tokens"].size(), 4000u);
}

TEST_F(CompletionsTest, AStreamSaysWhatTheWholeAnswerSays) {
  const std::string body =
      R"({"prompt": "Hi", "n": 2, "seed": 5, "max_tokens": 30, "logprobs": 1, "echo": true)";
  const json whole = running.complete(body + "}").json();
  const HttpAnswer answer =
      running.complete(body + R"(, "stream": true, "stream_options": {"include_usage": true}})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.head, HasSubstr("Content-Type: text/event-stream"));
  const std::vector<std::string> events = answer.events();
  ASSERT_GE(events.size(), 4u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::vector<std::string> texts(2), reasons(2);
  std::vector<json> values(2, json::array()), offsets(2, json::array());
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const json chunk = parse_json(events[i]);
    const json& choice = chunk["choices"][0];
    EXPECT_TRUE(chunk["usage"].is_null());
    const auto index = choice["index"].get<size_t>();
    texts[index] += choice["text"].get<std::string>();
    for (const json& value : choice["logprobs"]["token_logprobs"]) values[index].push_back(value);
    for (const json& value : choice["logprobs"]["text_offset"]) offsets[index].push_back(value);
    if (!choice["finish_reason"].is_null()) reasons[index] = choice["finish_reason"];
  }
  EXPECT_EQ(parse_json(events[events.size() - 2])["usage"], whole["usage"]);
  for (size_t c = 0; c < 2; ++c) {
    EXPECT_EQ(texts[c], whole["choices"][c]["text"]);
    EXPECT_EQ(values[c], whole["choices"][c]["logprobs"]["token_logprobs"]);
    EXPECT_EQ(offsets[c], whole["choices"][c]["logprobs"]["text_offset"]);
    EXPECT_EQ(reasons[c], whole["choices"][c]["finish_reason"]);
  }
}

TEST_F(CompletionsTest, EndsBeforeAStopStringAndStopsSampling) {
  const std::string body = R"({"prompt": "Hi", "seed": 2, "max_tokens": 200, "ignore_eos": true)";
  const std::string text = running.complete(body + "}").json()["choices"][0]["text"];
  // A piece of plain text that comes up somewhere in the middle.
  size_t at = 20;
  while (at < text.size() && (text[at] < '0' || text[at] > 'z' || text[at] == '\\')) ++at;
  ASSERT_LT(at, text.size());
  const std::string stop = text.substr(at, 1);
  const json cut =
      running.complete(body + R"(, "stop": [)" + json(stop).dump() + R"(, "never to be seen"]})")
          .json();
  EXPECT_EQ(cut["choices"][0]["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "stop");
  EXPECT_LT(cut["usage"]["completion_tokens"], 200);
  EXPECT_TRUE(running.becomes_idle());
}

TEST_F(CompletionsTest, ASpecialTokensTextStopsAtTheToken) {
  const json reply = running
                         .complete(R"({"prompt": "Hi", "seed": 3, "ignore_eos": true,
      "max_tokens": 3000, "stop": "</s>", "return_token_ids": true})")
                         .json();
  ASSERT_EQ(reply["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(reply["choices"][0]["token_ids"].back(), 1);
}

TEST_F(CompletionsTest, TwoHundredStreamsAtOnceGetTheirOwnTokens) {
  const auto body = [](int seed) {
    return R"({"prompt": "Hi", "max_tokens": 12, "stream": true, "seed": )" + std::to_string(seed) +
           "}";
  };
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<HttpClient>(running.port));
    ASSERT_TRUE(clients.back()->send(HttpClient::post("/v1/completions", body(i % 50))));
  }
  std::vector<std::string> texts;
  for (auto& client : clients) {
    const HttpAnswer answer = client->read();
    ASSERT_EQ(answer.status, 200);
    ASSERT_EQ(answer.events().back(), "[DONE]");
    std::string& text = texts.emplace_back();
    for (const std::string& event : answer.events())
      if (event != "[DONE]") text += parse_json(event)["choices"][0]["text"];
  }
  for (size_t i = 50; i < 200; ++i) EXPECT_EQ(texts[i], texts[i % 50]);
  EXPECT_NE(texts[0], texts[1]);
  for (int seed : {0, 49}) {  // alone
    std::string text;
    for (const std::string& event : running.complete(body(seed)).events())
      if (event != "[DONE]") text += parse_json(event)["choices"][0]["text"];
    EXPECT_EQ(text, texts[static_cast<size_t>(seed)]);
  }
}

TEST_F(CompletionsTest, AChatStreamsRoleDeltasAndEnd) {
  const std::string body =
      R"({"messages": [{"role": "user", "content": "Hi"}], "seed": 4, "max_tokens": 9,
          "logprobs": true, "top_logprobs": 2)";
  const json whole = running.chat(body + "}").json();
  EXPECT_EQ(whole["object"], "chat.completion");
  const json& choice = whole["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  ASSERT_EQ(choice["logprobs"]["content"].size(), whole["usage"]["completion_tokens"]);
  for (const json& token : choice["logprobs"]["content"]) {
    EXPECT_EQ(token["top_logprobs"].size(), 2u);
    EXPECT_GE(token["top_logprobs"][0]["logprob"], token["logprob"]);
  }
  const std::vector<std::string> events = running.chat(body + R"(, "stream": true})").events();
  EXPECT_EQ(parse_json(events[0])["choices"][0]["delta"],
            (json{{"role", "assistant"}, {"content", ""}}));
  std::string text;
  json last;
  for (size_t i = 1; i + 1 < events.size(); ++i) {
    last = parse_json(events[i]);
    EXPECT_EQ(last["object"], "chat.completion.chunk");
    text += last["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(text, choice["message"]["content"]);
  EXPECT_EQ(last["choices"][0]["finish_reason"], choice["finish_reason"]);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(ChatThinkingTest, AThoughtThatThePromptOpensComesApart) {
  RunningServer running({}, {}, "deepseek_v3_1");
  const std::string body = R"({"messages": [{"role": "user", "content": "Hi"}], "seed": 4,
      "max_tokens": 9, "ignore_eos": true, "return_token_ids": true)";
  const json plain = running.chat(body + "}").json()["choices"][0];
  EXPECT_FALSE(plain["message"].contains("reasoning_content"));
  EXPECT_NE(plain["message"]["content"], "");
  const json thinking =
      running.chat(body + R"(, "chat_template_kwargs": {"thinking": true}})").json()["choices"][0];
  EXPECT_EQ(thinking["message"]["content"], "");
  EXPECT_NE(thinking["message"]["reasoning_content"], "");
  EXPECT_NE(thinking["prompt_token_ids"], plain["prompt_token_ids"]);
  const json joined =
      running
          .chat(body +
                R"(, "separate_reasoning": false, "chat_template_kwargs": {"thinking": true}})")
          .json()["choices"][0];
  EXPECT_EQ(joined["message"]["content"], thinking["message"]["reasoning_content"]);
}

}  // namespace
}  // namespace moerl::testing
