// The live server's manners: refusals, limits, clients that leave or do not read, fuzzed requests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <set>

#include "tests/experiments/openai/running_server.h"
#include "tests/fuzz/mutator.h"

namespace moerl::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kSmall = R"({"prompt": "Hi", "max_tokens": 2})";
/// Where HttpClient::post begins to say the body's length.
const size_t kContentLength = HttpClient::post("/v1/completions", "").find("Content-Length");

int64_t value_of(const std::string& metrics, const std::string& name) {
  const size_t at = metrics.find("\n" + name + " ");
  return at == std::string::npos ? -1 : std::atoll(metrics.c_str() + at + name.size() + 2);
}

TEST(HttpServerTest, AnswersHealthModelsAndMetrics) {
  RunningServer running;
  EXPECT_EQ(running.ask(HttpClient::get("/health")).json()["status"], "ok");
  const json models = running.ask(HttpClient::get("/v1/models")).json();
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(running.ask(HttpClient::get("/v1/models/tiny")).json()["id"], "tiny");
  EXPECT_EQ(running.ask(HttpClient::get("/v1/models/other")).status, 404);
  EXPECT_EQ(running.ask(HttpClient::get("http://x/v1/models/t%69ny?a=b")).json()["id"], "tiny");
  HttpClient head(running.port);
  head.send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(head.read_until("\r\n\r\n"));
  head.end_of_sending();
  EXPECT_THAT(head.rest(),
              AllOf(HasSubstr("200 OK"), HasSubstr("Date: "),
                    HasSubstr("Content-Length: " + std::to_string(models.dump().size())),
                    EndsWith("\r\n\r\n")));
  EXPECT_EQ(running.complete(kSmall).status, 200);
  const HttpAnswer metrics = running.ask(HttpClient::get("/metrics"));
  EXPECT_THAT(metrics.head, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_EQ(value_of(metrics.body, "moerl_generated_tokens_total"), 2);
  EXPECT_EQ(value_of(metrics.body, "moerl_prompt_tokens_total"), 2);
  EXPECT_EQ(value_of(metrics.body, "moerl_request_seconds_count"), 1);
  EXPECT_EQ(value_of(metrics.body, "moerl_first_token_seconds_count"), 1);
  EXPECT_EQ(value_of(metrics.body, "moerl_kv_blocks_free"),
            value_of(metrics.body, "moerl_kv_blocks"));
  EXPECT_THAT(metrics.body,
              HasSubstr("moerl_replies_total{path=\"/v1/completions\",status=\"200\"} 1"));
}

TEST(HttpServerTest, RefusesWithTheRightStatusAndOpenAisErrors) {
  RunningServer running({}, {.max_body_bytes = 1000});
  const auto post = [](const std::string& body) {
    return HttpClient::post("/v1/completions", body);
  };
  const struct {
    std::string request;
    int status;
    const char* said;
  } cases[] = {
      {post("{"), 400, "not JSON"},
      {post(R"({"prompt": "a", "n": "two"})"), 400, "n is \"two\", expected an integer"},
      {post(R"({"prompt": [999999]})"), 400, "prompt[0] is 999999"},
      {post(R"({"prompt": [265]})"), 400, "prompt[0] is 265"},
      {post(R"({"prompt": ""})"), 400, "0 tokens"},
      {post(R"({"prompt": "a", "max_tokens": 4097})"), 400, "at most 4096"},
      {post(R"({"prompt": "abc", "max_tokens": 4094})"), 400, "4096 positions"},
      {post(R"({"prompt": "a", "stop_token_ids": [300]})"), 400, "stop_token_ids holds 300"},
      {post(R"({"prompt": "a", "model": "gpt"})"), 404, "expected tiny"},
      {HttpClient::post("/v1/chat/completions",
                        R"({"messages": [{"role": "user", "content": "a"}],
                            "chat_template_kwargs": {"thinking": true}})"),
       400, "think"},
      {HttpClient::get("/v1/embeddings"), 404, "/v1/completions"},
      {HttpClient::get("/v1/completions"), 405, "expected POST"},
      {HttpClient::post("/health", ""), 405, "expected GET, HEAD"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n", 411, "Content-Length"},
      {post(std::string(1001, ' ')), 413, "1000"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" +
           std::string(1001, ' ') + "\r\n0\r\n\r\n",
       413, "1000"},
      {HttpClient::get("/health", "X: " + std::string(20000, 'x') + "\r\n"), 431, "head"},
      {"nonsense\r\n\r\n", 400, "not HTTP"},
      {"GET /health HTTP/1.1\r\n\r\n", 400, "0 Host headers"},
      {HttpClient::get("/health", "Host: y\r\n"), 400, "2 Host headers"},
      {HttpClient::post("/v1/completions", kSmall, "Expect: tea\r\n"), 417, "Expect"},
      {post(kSmall + std::string(4, ' ')).insert(kContentLength, "Content-Length: 9\r\n"), 400,
       "Content-Length"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
       "chunked\r\n\r\n0\r\n\r\n",
       400, "Transfer-Encoding"},
      {HttpClient::post("/v1/completions", kSmall, "Content-Encoding: gzip\r\n"), 415,
       "compressed"},
  };
  for (const auto& c : cases) {
    const HttpAnswer answer = running.ask(c.request);
    ASSERT_EQ(answer.status, c.status) << c.request.substr(0, 200) << "\n" << answer.body;
    const json error = answer.json().at("error");
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(c.said));
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_TRUE(error.contains("param") && error.contains("code"));
  }
  EXPECT_EQ(running.complete(kSmall).status, 200);
}

TEST(HttpServerTest, WantsTheKey) {
  RunningServer running({.api_key = "sesame"});
  const auto with = [&](const std::string& header) {
    return running.ask(HttpClient::post("/v1/completions", kSmall, header));
  };
  for (const std::string wrong :
       {"", "Authorization: Bearer \r\n", "Authorization: Bearer sesam\r\n",
        "Authorization: Bearer sesamee\r\n", "Authorization: Bearer Sesame\r\n",
        "Authorization: sesame\r\n"}) {
    const HttpAnswer answer = with(wrong);
    EXPECT_EQ(answer.status, 401) << wrong;
    EXPECT_EQ(answer.json()["error"]["code"], "invalid_api_key");
    EXPECT_THAT(answer.body, Not(HasSubstr("sesam")));
  }
  EXPECT_EQ(with("Authorization: Bearer sesame\r\n").status, 200);
  EXPECT_EQ(running.ask(HttpClient::get("/v1/models")).status, 401);
  EXPECT_EQ(running.ask(HttpClient::get("/health")).status, 200);
}

TEST(HttpServerTest, KeepsConnectionsForOneRequestAfterAnother) {
  RunningServer running;
  HttpClient client(running.port);
  const std::string whole = client.ask(HttpClient::post("/v1/completions", kSmall)).body;
  EXPECT_EQ(client.ask(HttpClient::get("/health")).status, 200);
  // All at once, the last one in pieces.
  const std::string last = HttpClient::get("/health");
  client.send(HttpClient::post("/v1/completions", R"({"prompt": "a", "stream": true})") +
              HttpClient::post("/v1/completions", kSmall) + last.substr(0, 9));
  EXPECT_EQ(client.read().events().back(), "[DONE]");
  EXPECT_EQ(client.read().status, 200);
  client.send(last.substr(9));
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(client.ask(HttpClient::get("/health", "Connection: close\r\n")).status, 200);
  EXPECT_TRUE(client.is_closed());

  HttpClient patient(running.port);
  patient.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: " +
      std::to_string(kSmall.size()) + "\r\n\r\n");
  EXPECT_EQ(patient.read().status, 100);
  EXPECT_EQ(patient.ask(kSmall).status, 200);
}

TEST(HttpServerTest, OldClientsGetTheirStreamWithoutChunks) {
  RunningServer running;
  HttpClient client(running.port);
  const std::string body = R"({"prompt": "a", "stream": true, "max_tokens": 3})";
  client.send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  EXPECT_TRUE(client.read_until("data: [DONE]\n\n"));
  client.read();
}

TEST(HttpServerTest, AClientThatLeavesFreesItsPlace) {
  RunningServer running({.engine = {.max_num_seqs = 1}});
  const auto running_sequences = [&] {
    return running.service->worker().status().running_sequences;
  };
  for (bool stream : {true, false}) {
    HttpClient client(running.port), queued(running.port), half(running.port);
    client.send(HttpClient::post("/v1/completions", endless(stream)));
    ASSERT_TRUE(RunningServer::becomes([&] { return running_sequences() == 1; }));
    queued.send(HttpClient::post("/v1/completions", endless(!stream)));
    half.send(HttpClient::post("/v1/completions", endless(stream)));
    ASSERT_TRUE(RunningServer::becomes(
        [&] { return running.service->worker().status().queued_sequences == 2; }));
    queued.leave();  // while it waits
    half.end_of_sending();
    client.leave();  // in the middle
    EXPECT_TRUE(running.becomes_idle());
  }
  EXPECT_EQ(running.service->metrics().clients_left, 6u);
  EXPECT_EQ(running.complete(kSmall).status, 200);
}

TEST(HttpServerTest, AClientThatDoesNotReadIsDroppedAndHoldsNobodyUp) {
  RunningServer running({}, {.max_unsent_bytes = 200000});
  HttpClient slow(running.port, /*receive_bytes=*/2048);
  // Long enough to fill the system's buffers too.
  slow.send(HttpClient::post("/v1/completions",
                             R"({"prompt": "Hi", "ignore_eos": true, "max_tokens": 3000, "n": 16,
                                 "logprobs": 20, "stream": true})"));
  ASSERT_TRUE(slow.read_until("data: "));
  EXPECT_EQ(running.complete(kSmall).status, 200);
  EXPECT_TRUE(running.becomes_idle());
  EXPECT_EQ(running.service->metrics().clients_too_slow, 1u);
}

TEST(HttpServerTest, AnEventMayBeLargerThanWhatAClientMayLeaveUnread) {
  RunningServer running({}, {.max_unsent_bytes = 1000});
  std::string ids = "3";
  for (int i = 0; i < 2000; ++i) ids += ",4";
  const HttpAnswer answer =
      running.complete("{\"prompt\": [" + ids +
                       R"(], "echo": true, "logprobs": 3, "max_tokens": 1, "stream": true})");
  EXPECT_EQ(answer.events().back(), "[DONE]");
  EXPECT_GT(answer.events().front().size(), 100000u);
}

TEST(HttpServerTest, RefusesWhatTheQueueCannotHold) {
  RunningServer running({.engine = {.max_num_seqs = 1, .max_queue = 2}});
  HttpClient first(running.port), second(running.port);
  first.send(HttpClient::post("/v1/completions", endless(true)));
  second.send(HttpClient::post("/v1/completions", endless(true)));
  ASSERT_TRUE(RunningServer::becomes([&] {
    const EngineStatus status = running.service->worker().status();
    return status.running_sequences + status.queued_sequences == 2;
  }));
  for (const char* stream : {"", R"(, "stream": true)"}) {
    const HttpAnswer answer =
        running.complete(std::string(R"({"prompt": "Hi", "max_tokens": 2)") + stream + "}");
    EXPECT_EQ(answer.status, 429);
    EXPECT_THAT(answer.head, HasSubstr("Retry-After: 1"));
    EXPECT_EQ(answer.json()["error"]["type"], "rate_limit_error");
  }
  EXPECT_EQ(running.complete(R"({"prompt": "Hi", "n": 3})").status, 400);  // never fits
  first.leave();
  second.leave();
  EXPECT_TRUE(running.becomes_idle());
}

TEST(HttpServerTest, LimitsTokensConnectionsAndTime) {
  RunningServer running({.max_tokens = 5},
                        {.max_connections = 2, .request_timeout_s = 0.3, .idle_timeout_s = 0.6});
  EXPECT_EQ(running.complete(R"({"prompt": "a", "max_tokens": 6})").status, 400);
  EXPECT_EQ(running.chat(R"({"messages": [{"role": "user", "content": "a"}], "ignore_eos": true})")
                .json()["usage"]["completion_tokens"],
            5);
  EXPECT_TRUE(RunningServer::becomes([&] { return running.service->metrics().connections == 0; }));
  {
    HttpClient idle(running.port), late(running.port), third(running.port);
    late.send("POST /v1/completions HTTP/1.1\r\nContent-Le");
    EXPECT_EQ(third.read().status, 503);
    EXPECT_TRUE(late.is_closed());
    EXPECT_TRUE(idle.is_closed());
  }
  EXPECT_TRUE(RunningServer::becomes([&] { return running.service->metrics().connections == 0; }));
  EXPECT_EQ(running.complete(kSmall).status, 200);
}

TEST(HttpServerTest, ShutdownLetsAnswersEndAndCutsThoseThatDoNot) {
  RunningServer running;
  HttpClient idle(running.port), stream(running.port), whole(running.port);
  idle.ask(HttpClient::get("/health"));
  stream.send(HttpClient::post("/v1/completions", endless(true, 600)));
  ASSERT_TRUE(stream.read_until("data: "));
  auto ended = std::async(std::launch::async, [&] { running.server->shutdown(30); });
  const HttpAnswer answer = stream.read();
  EXPECT_EQ(answer.events().back(), "[DONE]");
  EXPECT_THAT(answer.events()[answer.events().size() - 2],
              HasSubstr(R"("finish_reason":"length")"));
  ended.wait();
  EXPECT_TRUE(idle.is_closed());
  EXPECT_THROW(HttpClient(running.port), std::runtime_error);

  RunningServer other({.engine = {.max_num_seqs = 1}});
  HttpClient cut(other.port), waiting(other.port);
  cut.send(HttpClient::post("/v1/completions", endless(true)));
  ASSERT_TRUE(cut.read_until("data: "));
  waiting.send(HttpClient::post("/v1/completions", endless(false)));
  ASSERT_TRUE(RunningServer::becomes(
      [&] { return other.service->worker().status().queued_sequences == 1; }));
  other.server->shutdown(0);
  EXPECT_THAT(cut.read().events().back(), HasSubstr("shutting_down"));
  EXPECT_EQ(waiting.read().status, 503);
}

TEST(HttpServerTest, TenThousandDamagedRequestsChangeNothing) {
  RunningServer running(
      {.api_key = "k", .max_tokens = 8},
      {.max_body_bytes = 3000, .request_timeout_s = 0.05, .idle_timeout_s = 0.05});
  const std::string key = "Authorization: Bearer k\r\n";
  std::vector<std::string> corpus = {
      HttpClient::post("/v1/completions",
                       R"({"prompt": "Hi", "max_tokens": 3, "n": 2, "stop": ["x"], "seed": 1})",
                       key),
      HttpClient::post("/v1/completions",
                       R"({"prompt": [[3, 4], [5]], "echo": true, "logprobs": 2, "max_tokens": 1})",
                       key),
      HttpClient::post("/v1/completions", R"({"prompt": "a", "stream": true, "max_tokens": 4})",
                       key),
      HttpClient::post("/v1/chat/completions",
                       R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 4})", key),
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + key +
          "Transfer-Encoding: chunked\r\n\r\n1c\r\n{\"prompt\": \"a\", \"n\": 1     }\r\n0\r\n\r\n",
      HttpClient::get("/v1/models", key),
      HttpClient::get("/metrics"),
      HttpClient::get("/health")};
  const std::string valid =
      HttpClient::post("/v1/completions", R"({"prompt": "Hi", "max_tokens": 8, "seed": 9})", key);
  const json before = running.ask(valid).json()["choices"];
  const std::set<int> allowed = {100, 200, 400, 401, 404, 405, 411, 413, 415, 417, 429, 431};
  Mutator mutator(corpus, 17);
  std::map<int, int> counts;
  for (int batch = 0; batch < 100; ++batch) {
    // Together, as the server waits a while for the rest of those that were cut short.
    std::vector<std::string> requests;
    std::vector<std::unique_ptr<HttpClient>> clients;
    for (int i = 0; i < 100; ++i) {
      requests.push_back(mutator.next());
      clients.push_back(std::make_unique<HttpClient>(running.port));
      clients.back()->send(requests.back());
    }
    for (size_t i = 0; i < clients.size(); ++i)
      for (HttpAnswer answer = clients[i]->read(); answer.status != 0;
           answer = clients[i]->read()) {
        ++counts[answer.status];
        ASSERT_TRUE(allowed.contains(answer.status)) << answer.status << "\n" << requests[i];
        if (answer.status < 400) continue;
        ASSERT_THAT(answer.body, Not(HasSubstr("nlohmann"))) << requests[i];
        ASSERT_FALSE(answer.json()["error"]["message"].get<std::string>().empty()) << requests[i];
      }
  }
  EXPECT_GT(counts[200], 100);
  EXPECT_GT(counts[400], 1000);
  EXPECT_GT(counts[401] + counts[404] + counts[405], 100);
  EXPECT_TRUE(running.becomes_idle());
  EXPECT_EQ(running.ask(valid).json()["choices"], before);
}

}  // namespace
}  // namespace moerl::testing
