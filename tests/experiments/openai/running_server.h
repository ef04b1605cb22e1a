#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "experiments/openai/http_server.h"
#include "tests/experiments/openai/http_client.h"
#include "tests/experiments/temporary_directory.h"
#include "tests/experiments/tiny_directory.h"

namespace moerl::testing {

/// A tiny model behind a live server on loopback. Its texts hardly ever end by themselves.
struct RunningServer {
  explicit RunningServer(openai::ServiceConfig service_config = {},
                         openai::HttpServerConfig http = {}, const std::string& chat = "plain") {
    ModelConfig config = tiny_text_config();
    config.max_position_embeddings = 4096;
    write_tiny_directory(ctx, root.path() / "tiny", tiny_tokenizer_json(), config);
    model = open_model(ctx, root.path() / "tiny", {.dtype = "f32"});
    if (service_config.model_name.empty()) service_config.model_name = "tiny";
    service_config.engine.kv_cache_bytes = int64_t{64} << 20;
    http.address = "127.0.0.1:0";
    service = std::make_unique<openai::Service>(ctx, model, policy::ChatTemplate::named(chat),
                                                std::move(service_config));
    server = std::make_unique<openai::HttpServer>(*service, http);
    port = server->port();
  }

  HttpAnswer ask(const std::string& request) { return HttpClient(port).ask(request); }
  HttpAnswer complete(const std::string& body) {
    return ask(HttpClient::post("/v1/completions", body));
  }
  HttpAnswer chat(const std::string& body) {
    return ask(HttpClient::post("/v1/chat/completions", body));
  }
  /// Whether it becomes true within 30 s.
  static bool becomes(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  bool becomes_idle() {
    return becomes([&] {
      const EngineStatus status = service->worker().status();
      return status.running_sequences == 0 && status.queued_sequences == 0 &&
             status.kv_blocks_free == status.kv_blocks_total &&
             service->worker().num_waiting_scores() == 0 && service->metrics().active_requests == 0;
    });
  }

  ExecContext ctx{1};
  TemporaryDirectory root;
  OpenedModel model;
  std::unique_ptr<openai::Service> service;
  std::unique_ptr<openai::HttpServer> server;
  int port = 0;
};

/// A request that goes on for long.
inline std::string endless(bool stream, int64_t tokens = 4000) {
  return R"({"prompt": "Hi", "seed": 1, "ignore_eos": true, "max_tokens": )" +
         std::to_string(tokens) + R"(, "stream": )" + (stream ? "true}" : "false}");
}

}  // namespace moerl::testing
