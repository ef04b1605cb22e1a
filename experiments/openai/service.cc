#include "experiments/openai/service.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <random>
#include <utility>

#include "common/check.h"
#include "experiments/openai/answer.h"
#include "experiments/openai/api_error.h"
#include "experiments/sample_rows.h"

namespace moerl::openai {
namespace {

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kModels = "/v1/models";
constexpr int64_t kDefaultTokens = 16;  // OpenAI's for /v1/completions
constexpr int64_t kMaxToldLogProbs = int64_t{1} << 19;

uint64_t random_bits() {
  thread_local std::mt19937_64 bits{std::random_device{}()};
  return bits();
}

HttpReply refusal(int status, const std::string& code, const std::string& message) {
  return {.status = status, .body = ApiError(status, code, "", message).json()};
}

/// An answer is put together in memory, so what is told of prompts is limited.
/// @throws ApiError 400.
void check_told_log_probs(const CompletionRequest& request, const PreparedRequest& prepared) {
  if (!request.echo || !request.top_log_probs) return;
  int64_t told = 0;
  for (const std::vector<int32_t>& prompt : prepared.plan.prompts)
    told += static_cast<int64_t>(prompt.size()) * request.n * (1 + *request.top_log_probs);
  if (told > kMaxToldLogProbs)
    throw bad_field("logprobs", concat("the echoed prompts would come with ", told,
                                       " log-probs, expected at most ", kMaxToldLogProbs,
                                       ": send fewer prompts at once"));
}

/// Takes as long for every guess of the same length.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned>(a[i] ^ b[b.empty() ? 0 : i % b.size()]);
  return difference == 0;
}

}  // namespace

HttpReply error_reply(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const ApiError& e) {
    return {.status = e.status(), .body = e.json()};
  } catch (const std::invalid_argument& e) {
    return refusal(400, "", e.what());
  } catch (const ResourceExhausted&) {
    HttpReply reply = refusal(429, "queue_full", "the server's queue is full; try again later");
    reply.headers = {{"Retry-After", "1"}};
    return reply;
  } catch (const Cancelled&) {
    return refusal(503, "shutting_down", "the server is shutting down");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "moerl: a request failed: %s\n", e.what());
    return refusal(500, "", "the server failed to answer this request");
  }
}

Service::Service(ExecContext& ctx, const OpenedModel& model, policy::ChatTemplate chat,
                 ServiceConfig config)
    : model_(model),
      tokenizer_(model.need_tokenizer()),
      chat_(std::move(chat)),
      config_(std::move(config)),
      stop_tokens_(stop_tokens_of(model, chat_)),
      created_(std::time(nullptr)),
      worker_(*model.transformer, config_.engine, ctx) {}

bool Service::is_authorised(const std::string& authorization) const {
  if (config_.api_key.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view value = authorization;
  if (value.size() < kScheme.size()) return false;
  for (size_t i = 0; i < kScheme.size(); ++i)
    if (std::tolower(static_cast<unsigned char>(value[i])) != kScheme[i]) return false;
  return same_secret(value.substr(kScheme.size()), config_.api_key);
}

std::optional<HttpReply> Service::answer_head(const std::string& method, const std::string& path,
                                              const std::string& authorization) const {
  if (path.starts_with("/v1/") && !is_authorised(authorization)) {
    HttpReply reply =
        refusal(401, "invalid_api_key",
                "the API key is missing or wrong, expected 'Authorization: Bearer KEY'");
    reply.headers = {{"WWW-Authenticate", "Bearer"}};
    return reply;
  }
  const bool is_post = path == kCompletions || path == kChat;
  const bool is_model = path.starts_with(concat(kModels, "/"));
  if (!is_post && !is_model && path != kModels && path != "/health" && path != "/metrics")
    return refusal(404, "unknown_url",
                   "there is nothing at this path; the server has /v1/completions, "
                   "/v1/chat/completions, /v1/models, /health and /metrics");
  const std::string expected = is_post ? "POST" : "GET, HEAD";
  if (is_post ? method != "POST" : method != "GET" && method != "HEAD") {
    HttpReply reply = refusal(405, "method_not_allowed",
                              concat("the method is not allowed here, expected ", expected));
    reply.headers = {{"Allow", expected}};
    return reply;
  }
  if (is_post)
    return draining_ ? std::optional(error_reply(std::make_exception_ptr(Cancelled("draining"))))
                     : std::nullopt;
  if (path == "/health")
    return HttpReply{.status = draining_ ? 503 : 200,
                     .body = draining_ ? R"({"status": "shutting down"})" : R"({"status": "ok"})"};
  if (path == "/metrics")
    return HttpReply{.body = metrics_.render(worker_.status(), worker_.num_waiting_scores()),
                     .content_type = "text/plain; version=0.0.4"};
  const int64_t positions = model_.transformer->config().max_position_embeddings;
  if (is_model && path.substr(std::string_view(kModels).size() + 1) != config_.model_name)
    return refusal(404, "model_not_found",
                   concat("there is no such model here, expected ", config_.model_name));
  return HttpReply{.body = is_model ? model_json(config_.model_name, created_, positions)
                                    : models_json(config_.model_name, created_, positions)};
}

PreparedRequest Service::prepare(const std::string& path, std::string_view body) const {
  PreparedRequest request = path == kChat ? prepare_chat(body) : prepare_completion(body);
  request.path = path;
  return request;
}

void Service::prepare_options(const RequestOptions& options, int64_t default_tokens,
                              PreparedRequest& out) const {
  if (!options.model.empty() && options.model != config_.model_name)
    throw ApiError(404, "model_not_found", "model",
                   concat("model names a model that is not here, expected ", config_.model_name));
  const ModelConfig& model = model_.transformer->config();
  GenerationPlan& plan = out.plan;
  plan.sampling = options.sampling;
  plan.n = options.n;
  plan.seed = options.seed ? *options.seed : random_bits() >> 11;  // exact in any JSON reader
  plan.num_top = options.top_log_probs.value_or(0);
  std::vector<int32_t>& stops = plan.sampling.stop_token_ids;
  for (int32_t id : stops)
    if (id >= model.sampled_vocab_size())
      throw bad_field("stop_token_ids", concat("stop_token_ids holds ", id, ", expected ids below ",
                                               model.sampled_vocab_size()));
  if (!options.ignore_eos) stops.insert(stops.end(), stop_tokens_.begin(), stop_tokens_.end());
  for (const std::string& stop : options.stop) {
    // Special tokens have no text in an answer; as a stop they can only be meant as tokens.
    const std::optional<int32_t> id = tokenizer_.tokenizer.token_id(stop);
    if (id && tokenizer_.tokenizer.is_special(*id))
      stops.push_back(*id);
    else
      plan.stop.push_back(stop);
  }

  int64_t longest = 0;
  for (const std::vector<int32_t>& prompt : plan.prompts) {
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
    out.usage.prompt_tokens += static_cast<int64_t>(prompt.size());
  }
  const int64_t positions = model.max_position_embeddings, room = positions - longest;
  const int64_t limit = config_.max_tokens > 0 ? config_.max_tokens : positions;
  if (options.max_tokens && *options.max_tokens > limit)
    throw bad_field("max_tokens",
                    concat("max_tokens is ", *options.max_tokens, ", expected at most ", limit));
  if (room < options.max_tokens.value_or(1))
    throw ApiError(
        400, "context_length_exceeded", "max_tokens",
        concat("the prompt has ", longest, " tokens and ", options.max_tokens.value_or(1),
               " are to be generated, expected at most the model's ", positions,
               " positions for both"));
  plan.sampling.max_tokens = options.max_tokens.value_or(std::min({default_tokens, limit, room}));
  const int64_t sequences = static_cast<int64_t>(plan.prompts.size()) * plan.n;
  if (sequences > config_.engine.max_queue)
    throw bad_field("n", concat("the request asks for ", sequences,
                                " completions, expected at most ", config_.engine.max_queue));

  out.stream = options.stream;
  char id[40];
  std::snprintf(id, sizeof id, "%s-%016llx", out.format.is_chat ? "chatcmpl" : "cmpl",
                static_cast<unsigned long long>(random_bits()));
  out.format.id = id;
  out.format.model = config_.model_name;
  out.format.fingerprint = Engine::numeric_family(*model_.transformer);
  out.format.created = std::time(nullptr);
  out.format.seed = plan.seed;
  out.format.top_log_probs = options.top_log_probs;
  out.format.include_usage = options.include_usage;
  out.format.return_token_ids = options.return_token_ids;
}

void Service::add_prompt(const Prompt& prompt, const CompletionRequest& request, size_t index,
                         PreparedRequest& out) const {
  const policy::Tokenizer& tokenizer = tokenizer_.tokenizer;
  const std::string name = request.prompts.size() == 1 ? "prompt" : concat("prompt[", index, "]");
  std::vector<int32_t> ids;
  size_t num_added = 0;  // tokens in front that are no part of the text
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    ids = tokenizer.encode(*text);
    // The frame's end is left out: the text goes on.
    const std::vector<int32_t>& prefix = tokenizer_.frame.prefix;
    const bool has_prefix =
        ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
    if (request.add_special_tokens && !has_prefix) {
      ids.insert(ids.begin(), prefix.begin(), prefix.end());
      num_added = prefix.size();
    }
  } else {
    ids = std::get<std::vector<int32_t>>(prompt);
  }
  if (ids.empty()) throw bad_field(name, concat(name, " has 0 tokens, expected at least 1"));
  const int64_t vocab = model_.transformer->config().sampled_vocab_size();
  std::string text;
  std::vector<int64_t> offsets;
  int64_t characters = 0;
  policy::StreamDecoder decoder(tokenizer);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= vocab || !tokenizer.has_token(ids[i]))
      throw bad_field(name, concat(name, "[", i, "] is ", ids[i],
                                   ", expected a token id of the model, below ", vocab));
    if (!request.echo) continue;
    offsets.push_back(characters);
    if (i < num_added) continue;
    const std::string piece = decoder.push(ids[i]);
    characters += num_characters(piece);
    text += piece;
  }
  text += decoder.finish();
  out.plan.text_offsets.push_back(request.echo ? num_characters(text) : 0);
  if (request.echo) {
    out.echoed.push_back(std::move(text));
    out.prompt_text_offsets.push_back(std::move(offsets));
  }
  out.plan.prompts.push_back(std::move(ids));
}

PreparedRequest Service::prepare_completion(std::string_view body) const {
  const CompletionRequest request = parse_completion_request(body);
  PreparedRequest out;
  try {
    for (size_t i = 0; i < request.prompts.size(); ++i)
      add_prompt(request.prompts[i], request, i, out);
  } catch (const std::invalid_argument& error) {  // of the tokenizer
    throw bad_field("prompt", error.what());
  }
  check_told_log_probs(request, out);
  out.plan.scores_prompts = request.echo && (request.top_log_probs || request.max_tokens == 0);
  prepare_options(request, kDefaultTokens, out);
  return out;
}

PreparedRequest Service::prepare_chat(std::string_view body) const {
  const ChatRequest request = parse_chat_request(body);
  PreparedRequest out;
  out.format.is_chat = true;
  policy::ChatTemplate chat = chat_;
  try {
    if (request.thinking) chat = chat_.with_thinking(*request.thinking);
  } catch (const ConfigError& error) {
    throw bad_field("chat_template_kwargs", error.what());
  }
  try {
    out.plan.prompts = {encode_chat(tokenizer_, chat, "", request.messages)};
  } catch (const std::invalid_argument& error) {
    throw bad_field("messages", error.what());
  }
  if (out.plan.prompts[0].empty())
    throw bad_field("messages", "messages have 0 tokens in the chat template, expected at least 1");
  out.plan.text_offsets = {0};
  out.separates_reasoning = request.separate_reasoning;
  out.starts_inside = chat.opens_thinking();
  prepare_options(request, model_.transformer->config().max_position_embeddings, out);
  return out;
}

void Service::start(PreparedRequest request, std::shared_ptr<Exchange> exchange) {
  std::make_shared<Answer>(std::move(request), std::move(exchange), worker_, tokenizer_.tokenizer,
                           metrics_)
      ->start();
}

}  // namespace moerl::openai
