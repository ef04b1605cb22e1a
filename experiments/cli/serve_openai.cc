#include "experiments/cli/serve_openai.h"

#include <cstdio>
#include <cstdlib>

#include "common/check.h"
#include "common/file.h"
#include "experiments/cli/environment.h"
#include "experiments/openai/http_server.h"

namespace moerl::cli {
namespace {

struct OpenaiOptions {
  std::string model, name, key_file, chat_template, dtype, device = "cpu";
  int64_t threads = 0, max_tokens = 0, max_queue = 1024;
  double kv_cache_gb = 1, max_body_mb = 4, drain_s = 30;
  int64_t max_num_seqs = 256;
  openai::HttpServerConfig http;
};

/// The key of --api-key-file, else of the environment; never of the command line, which every user
/// of a machine can read.
std::string read_key(const std::string& file) {
  std::string key;
  if (!file.empty()) {
    key = read_file(file);
    key.erase(key.find_last_not_of(" \t\r\n") + 1);
    check(!key.empty(), file, " is empty, expected an API key");
  } else if (const char* value = std::getenv("MOERL_API_KEY"); value != nullptr) {
    key = value;
    check(!key.empty(), "MOERL_API_KEY is set but empty, expected an API key");
  }
  for (char c : key)
    check(c > 0x20 && c < 0x7F, file.empty() ? "MOERL_API_KEY" : file,
          " holds a character that a header cannot carry, expected printable ASCII without spaces");
  return key;
}

/// The directory's own name; of a checkpoint, the run's.
std::string default_name(const ModelPlace& place) {
  const std::filesystem::path path = place.run.empty() ? place.directory : place.run;
  return std::filesystem::canonical(path).filename().string();
}

policy::ChatTemplate template_served(const OpenaiOptions& options, const ModelPlace& place) {
  try {
    return choose_chat_template(place, options.chat_template);
  } catch (const std::exception& error) {
    throw ConfigError(concat(error.what(), "; name one with --chat-template, or none"));
  }
}

void serve(const OpenaiOptions& options) {
  SignalWaiter signals;
  const std::string key = read_key(options.key_file);
  ExecContext ctx = make_context(options.threads, options.device);
  const OpenedModel model = open_model(ctx, options.model, {.dtype = options.dtype});
  const policy::ChatTemplate chat = template_served(options, model.place);
  EngineConfig engine;
  engine.kv_cache_bytes = static_cast<int64_t>(options.kv_cache_gb * (1 << 30));
  engine.max_num_seqs = options.max_num_seqs;
  engine.max_batched_tokens = std::max(engine.max_batched_tokens, engine.max_num_seqs);
  engine.max_queue = options.max_queue;
  const std::string name = options.name.empty() ? default_name(model.place) : options.name;
  openai::Service service(
      ctx, model, chat,
      {.model_name = name, .api_key = key, .max_tokens = options.max_tokens, .engine = engine});
  openai::HttpServerConfig http = options.http;
  http.max_body_bytes = static_cast<int64_t>(options.max_body_mb * (1 << 20));
  openai::HttpServer server(service, http);
  std::printf("model '%s' at %s, port %d (%s, chat template %s, %s)\n", name.c_str(),
              http.address.c_str(), server.port(),
              Engine::numeric_family(*model.transformer).c_str(), chat.name().c_str(),
              key.empty() ? "no API key: anyone who reaches it may use it" : "API key required");
  std::fflush(stdout);
  signals.wait();
  server.shutdown(options.drain_s);
}

void add_limits(CLI::App& command, OpenaiOptions& o) {
  command
      .add_option("--max-tokens", o.max_tokens,
                  "most tokens of one completion [what the model's positions leave]")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max-queue", o.max_queue,
                  "completions accepted at once, running and waiting; beyond: 429 [1024]")
      ->check(CLI::PositiveNumber);
  command.add_option("--max-num-seqs", o.max_num_seqs, "completions that run at once [256]")
      ->check(CLI::PositiveNumber);
  command.add_option("--max-body-mb", o.max_body_mb, "of a request; beyond: 413 [4]")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--max-connections", o.http.max_connections, "open at once; beyond: 503 [1024]")
      ->check(CLI::PositiveNumber);
  command.add_option(
      "--max-unsent-kb",
      [&o](const CLI::results_t& text) {
        int64_t kb = 0;
        if (!CLI::detail::lexical_cast(text[0], kb) || kb < 1) return false;
        o.http.max_unsent_bytes = kb << 10;
        return true;
      },
      "a stream's backlog at which a slow client is dropped [1024]");
  command
      .add_option("--request-timeout-s", o.http.request_timeout_s,
                  "for a request to arrive, head and body [30]")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--idle-timeout-s", o.http.idle_timeout_s,
                  "between the requests of a connection [75]")
      ->check(CLI::PositiveNumber);
  command.add_option("--drain-s", o.drain_s, "for running answers to end after SIGTERM [30]")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void add_serve_openai(CLI::App& serve_command) {
  auto options = std::make_shared<OpenaiOptions>();
  OpenaiOptions& o = *options;
  CLI::App* command = serve_command.add_subcommand(
      "openai", "Serve a model to OpenAI clients and evaluation harnesses over HTTP");
  command->add_option("MODEL", o.model, "Hugging Face directory, run directory or checkpoint")
      ->required();
  command->add_option("--address", o.http.address,
                      "host:port to listen on; port 0 picks one [127.0.0.1:8000]");
  command->add_option("--model-name", o.name, "what clients call it [the directory's name]");
  command->add_option("--api-key-file", o.key_file,
                      "file with the key that clients must send [MOERL_API_KEY, else none]");
  command->add_option("--chat-template", o.chat_template,
                      "by name [that of the run, or of the model's tokenizer_config.json]");
  command->add_option("--dtype", o.dtype, "bf16, f32 or fp8 [the run's, else bf16]");
  command->add_option("--kv-cache-gb", o.kv_cache_gb, "memory of the key-value cache [1]")
      ->check(CLI::PositiveNumber);
  add_compute_options(*command, o.threads, o.device);
  add_limits(*command, o);
  command->footer(R"(Paths:
  /v1/completions        text or token ids, one or many; echo with logprobs scores the prompt with
                         the bits of `moerl score`; n, stop, seed, stream
  /v1/chat/completions   what stands in <think> … </think> comes as reasoning_content; thinking is
                         switched by chat_template_kwargs: {"enable_thinking": false}
  /v1/models /health /metrics (Prometheus)
Beside OpenAI's fields: top_k, min_p, stop_token_ids, ignore_eos, return_token_ids, and
separate_reasoning for chats. A field that would change the answer and is not supported is refused.
The same request with the same seed gets the same tokens, whatever else runs; without a seed one is
drawn, and the answer names it. Logprobs are those of the sampler at the request's temperature.
HTTP is plain: put a TLS proxy in front of an open network.

  moerl serve openai runs/countdown &
  curl localhost:8000/v1/completions -d '{"prompt": "Numbers: 8 5 3. Target: 29.", "max_tokens": 99}'
  lm-eval --model local-completions --tasks TASK --model_args \
    model=countdown,base_url=http://localhost:8000/v1/completions,tokenizer=DIRECTORY)");
  command->callback([options] { serve(*options); });
}

}  // namespace moerl::cli
